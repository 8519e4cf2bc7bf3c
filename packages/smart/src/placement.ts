import { PlacementError } from './placement-error.js';

/**
 * Chooses which `count` of the layers become MLA layers, by the rule of SMART (Zebra-Llama, arXiv 2505.17272). With L
 * scores and N = `count`:
 *
 * - the first is the best-scored of layers [0, ⌊L/N⌋), the last the best of [L − ⌊L/N⌋, L)
 * - the others lie between them such that every gap l_{k+1} − l_k − 1 is ⌊G⌋ or ⌈G⌉, where
 *   G = (l_N − l_1 − N + 1)/(N − 1) is the mean gap, and the sum of scores is the largest possible
 *
 * N = 0 gives none, N = 1 the best-scored layer, N = L all. The first and the last are settled before the sum is looked
 * at, so it is the largest for those two ends. They never make the gaps impossible: l_N − l_1 ≥ L − 2⌊L/N⌋ + 1 ≥ N − 1
 * for N ≥ 2, so G ≥ 0, and N − 1 gaps that are ⌊G⌋ or ⌈G⌉ can make up any whole total of mean G.
 *
 * Ties go to the lower index: for the ends the lowest of the best-scored, between them the lexicographically smallest
 * of the index lists with the largest sum. Sums are float64, added from the last layer back; which of two that differ
 * by rounding alone is the larger is left to it.
 *
 * Exact, by dynamic programming over (layer, wide gaps used so far): O(N²) steps.
 *
 * @param scores one a layer, the higher the more the layer gains from being MLA; finite, may be negative.
 * @param count how many MLA layers, an integer from 0 to `scores.length`.
 * @returns the indices of the MLA layers, ascending.
 * @throws PlacementError for a count that is not such an integer, or a score that is not finite.
 */
export function placeLayers(scores: readonly number[], count: number): number[] {
  const layers = scores.length;
  checkArguments(scores, count);
  if (count === 0) return [];
  const reach = Math.floor(layers / count);
  const first = bestIndex(scores, 0, reach);
  if (count === 1) return [first];
  const last = bestIndex(scores, layers - reach, layers);

  const steps = count - 1;
  const spare = last - first - steps;
  const narrow = Math.floor(spare / steps);
  // This many of the gaps are one wider than the others: a layer's index follows from how many wide gaps precede it.
  const wideGaps = spare - narrow * steps;
  const indexOf = (layer: number, wide: number) => first + layer * (narrow + 1) + wide;

  // best[layer][wide]: the largest sum over layers `layer`…last, when `wide` wide gaps precede `layer`.
  const best = Array.from({ length: count }, () => new Float64Array(wideGaps + 1).fill(Number.NEGATIVE_INFINITY));
  best[steps][wideGaps] = scores[last];
  for (let layer = steps - 1; layer >= 0; layer--) {
    for (let wide = Math.max(0, wideGaps - (steps - layer)); wide <= Math.min(layer, wideGaps); wide++) {
      const after = best[layer + 1];
      const rest = wide < wideGaps ? Math.max(after[wide], after[wide + 1]) : after[wide];
      best[layer][wide] = scores[indexOf(layer, wide)] + rest;
    }
  }
  const indices = [first];
  for (let layer = 1, wide = 0; layer < count; layer++) {
    // Only a strictly larger sum is worth the higher index.
    if (wide < wideGaps && best[layer][wide + 1] > best[layer][wide]) wide++;
    indices.push(indexOf(layer, wide));
  }
  return indices;
}

/** The index of the largest score in [start, end), the lowest of equals. */
function bestIndex(scores: readonly number[], start: number, end: number): number {
  let best = start;
  for (let i = start + 1; i < end; i++) if (scores[i] > scores[best]) best = i;
  return best;
}

function checkArguments(scores: readonly number[], count: number): void {
  const layers = scores.length;
  if (!(Number.isInteger(count) && count >= 0 && count <= layers)) {
    throw new PlacementError(
      'argument',
      'count',
      `placeLayers: count: expected an integer from 0 to ${layers}, the number of scores, got ${count}. ` +
        'Choose how many of these layers become MLA layers.',
    );
  }
  for (let i = 0; i < layers; i++) {
    if (Number.isFinite(scores[i])) continue;
    throw new PlacementError(
      'data',
      'scores',
      `placeLayers: scores: expected finite numbers, got ${scores[i]} for layer ${i}. ` +
        'Check that the model with this layer swapped gives finite logits.',
    );
  }
}
