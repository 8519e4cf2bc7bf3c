import type { Row } from '../runner/row.js';

/** How a row stands against an earlier one. */
export interface Change {
  readonly before: Row;
  /** new median / old median − 1: negative is faster. */
  readonly change: number;
  /** What a change has to exceed. */
  readonly noise: number;
  readonly verdict: 'faster' | 'slower' | 'same';
}

/** Differences below this are never told, however quiet both runs were: clocks, heat and memory layout do as much. */
const LEAST_NOISE = 0.05;

/** Identity of a row across runs. */
export function keyOf(row: Pick<Row, 'name' | 'shape'>): string {
  return `${row.name} | ${row.shape}`;
}

/** Compares the medians of a row with the spreads of both runs taken together as noise. */
export function compareRow(row: Row, before: Row): Change {
  const change = row.median / before.median - 1;
  const noise = Math.max(LEAST_NOISE, row.spread + before.spread);
  const verdict = Math.abs(change) <= noise ? 'same' : change < 0 ? 'faster' : 'slower';
  return { before, change, noise, verdict };
}
