/** What there is to say about a placement. */
export interface PlacementSummary {
  /** The MLA layers, ascending. */
  readonly indices: readonly number[];
  /** How many other layers lie between each MLA layer and the next. */
  readonly gaps: readonly number[];
  /** Σ of the MLA layers' scores. */
  readonly score: number;
}

/** The gaps between the layers of a placement and the sum of their scores. */
export function summarisePlacement(indices: readonly number[], scores: readonly number[]): PlacementSummary {
  return {
    indices: [...indices],
    gaps: placementGaps(indices),
    score: indices.reduce((sum, index) => sum + scores[index], 0),
  };
}

/** {@link summarisePlacement} as one line, such as `4 of 16 layers: 0, 5, 10, 14; gaps 4, 4, 3; score 1.234 of 2.345`. */
export function describePlacement(indices: readonly number[], scores: readonly number[]): string {
  const { gaps, score } = summarisePlacement(indices, scores);
  const total = scores.reduce((sum, value) => sum + value, 0);
  const parts = [
    `${indices.length} of ${scores.length} layers${indices.length > 0 ? `: ${indices.join(', ')}` : ''}`,
    ...(gaps.length > 0 ? [`gaps ${gaps.join(', ')}`] : []),
    `score ${score.toPrecision(4)} of ${total.toPrecision(4)}`,
  ];
  return parts.join('; ');
}

/**
 * How a placement departs from the rule that {@link placeLayers} follows, scores left aside: where its ends may lie and
 * how wide its gaps may be. Empty when it does not.
 *
 * @param indices the MLA layers.
 * @param layerCount L, how many layers there are.
 */
export function placementViolations(indices: readonly number[], layerCount: number): string[] {
  const count = indices.length;
  const violations: string[] = [];
  if (indices.some((index, i) => !Number.isInteger(index) || index >= layerCount || index <= (indices[i - 1] ?? -1))) {
    return [`indices have to be integers below ${layerCount}, ascending, none twice`];
  }
  if (count < 2) return violations;
  const reach = Math.floor(layerCount / count);
  const first = indices[0];
  const last = indices[count - 1];
  if (first >= reach) violations.push(`the first layer ${first} has to be below ${reach}`);
  if (last < layerCount - reach) violations.push(`the last layer ${last} has to be at least ${layerCount - reach}`);
  const mean = (last - first - count + 1) / (count - 1);
  const allowed = [...new Set([Math.floor(mean), Math.ceil(mean)])];
  placementGaps(indices).forEach((gap, i) => {
    if (allowed.includes(gap)) return;
    violations.push(`the gap after layer ${indices[i]} is ${gap}, not ${allowed.join(' or ')}`);
  });
  return violations;
}

function placementGaps(indices: readonly number[]): number[] {
  return indices.slice(1).map((index, i) => index - indices[i] - 1);
}
