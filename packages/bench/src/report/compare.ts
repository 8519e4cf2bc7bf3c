import type { Row } from '../runner/row.js';
import { percent } from './format.js';

/** How a row stands against an earlier one. */
export interface Change {
  readonly before: Row;
  /** new / old − 1: negative is faster. */
  readonly change: number;
  /** What a change has to exceed. */
  readonly noise: number;
  readonly verdict: 'faster' | 'slower' | 'same';
}

/**
 * Differences below this are never told, however quiet both runs were: clocks, heat and memory layout do as much, and
 * neighbours on the same cores and caches more.
 */
const LEAST_NOISE: Readonly<Record<Measure, number>> = { median: 0.05, cpu: 0.15 };

/** Identity of a row across runs. */
export function keyOf(row: Pick<Row, 'name' | 'shape'>): string {
  return `${row.name} | ${row.shape}`;
}

/**
 * What runs are compared by. `cpu` is for software adapters: their work is processor time, which other programs on the
 * machine change little, whereas the median doubles with each of them and no spread within a run shows that.
 */
export type Measure = 'median' | 'cpu';

/** Compares a row with an earlier one, with the spreads of both runs taken together as noise. */
export function compareRow(row: Row, before: Row, measure: Measure): Change {
  const spread = measure === 'cpu' ? 'cpuSpread' : 'spread';
  const change = row[measure] / before[measure] - 1;
  const noise = Math.max(LEAST_NOISE[measure], row[spread] + before[spread]);
  const verdict = Math.abs(change) <= noise ? 'same' : change < 0 ? 'faster' : 'slower';
  return { before, change, noise, verdict };
}

/** Two looks at one row: the smaller change, and none where they disagree. */
export function confirmed(first: Change, second: Change): Change {
  if (first.verdict !== second.verdict) return { ...second, verdict: 'same' };
  return Math.abs(first.change) < Math.abs(second.change) ? first : second;
}

/** What changed beyond the noise, the largest change first, and how many rows did not. */
export function describeChanges(changes: readonly Change[]): string[] {
  const told = changes.filter(({ verdict }) => verdict !== 'same');
  const factor = ({ change }: Change) => Math.abs(Math.log1p(change));
  const lines = [...told]
    .sort((one, other) => factor(other) - factor(one))
    .map(({ before: { name, shape }, change, noise, verdict }) => {
      const sign = change > 0 ? '+' : '−';
      return `${verdict.padEnd(6)} ${sign}${percent(Math.abs(change))} (noise ${percent(noise)})  ${name}  ${shape}`;
    });
  return [`changed beyond the noise: ${told.length} of ${changes.length} rows`, ...lines];
}
