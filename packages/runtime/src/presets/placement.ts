/**
 * MLA layers spread as evenly as the placement rule of SMART allows where no scores are known: the first layer, the
 * last but one (the last, where every layer counts), and between them gaps that differ by one at most. This is what
 * the published models with every other layer have; their other placements come from scores and differ by a layer.
 *
 * @param layerCount L
 * @param count N, from 0 to L
 * @returns the layers, ascending
 */
export function evenPlacement(layerCount: number, count: number): number[] {
  if (count === 0) return [];
  if (count === 1) return [0];
  // The rule wants the last one in [L − ⌊L/N⌋, L).
  const last = Math.floor(layerCount / count) > 1 ? layerCount - 2 : layerCount - 1;
  return Array.from({ length: count }, (_, i) => Math.round((i * last) / (count - 1)));
}
