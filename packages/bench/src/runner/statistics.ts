/** What is told of the times of a case. */
export interface Summary {
  readonly median: number;
  readonly min: number;
  readonly max: number;
  /** Distance of the quartiles as a share of the median: what half of the samples stay within. */
  readonly spread: number;
}

/** The value below which a share of the samples lies, interpolated between neighbours. `sorted` ascends. */
export function quantile(sorted: readonly number[], share: number): number {
  const at = share * (sorted.length - 1);
  const below = Math.floor(at);
  const low = sorted[below]!;
  return low + (at - below) * ((sorted[below + 1] ?? low) - low);
}

/** Median, extremes and spread of at least one sample. */
export function summarise(samples: readonly number[]): Summary {
  if (samples.length === 0) throw new RangeError('summarise: no samples');
  const sorted = [...samples].sort((a, b) => a - b);
  const median = quantile(sorted, 0.5);
  return {
    median,
    min: sorted[0]!,
    max: sorted[sorted.length - 1]!,
    spread: median > 0 ? (quantile(sorted, 0.75) - quantile(sorted, 0.25)) / median : 0,
  };
}
