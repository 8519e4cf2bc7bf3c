import type { Random } from '@zebra/tensor';

/** Symbols that are to be copied; one more id, the last, says "now copy". */
export const SYMBOLS = 16;
export const VOCABULARY = SYMBOLS + 1;
export const COPY = VOCABULARY - 1;
/** Symbols of one sequence. */
export const LENGTH = 8;

/** Targets with this value do not count in the loss. */
const IGNORED = -100;

/** One batch of the copying task; int32 [rows, 2 · LENGTH] each. */
export interface CopyBatch {
  readonly shape: readonly [number, number];
  readonly ids: Int32Array;
  readonly targets: Int32Array;
}

/** Random symbols. */
export function randomSymbols(random: Random): number[] {
  return Array.from({ length: LENGTH }, () => random.integer(SYMBOLS));
}

/**
 * Rows `s₀ … s₇ COPY s₀ … s₆`. From COPY on, each token is to predict the next symbol of the copy; what the first
 * symbols are nobody can know, so those positions have no target.
 */
export function copyBatch(rows: number, random: Random): CopyBatch {
  const width = 2 * LENGTH;
  const ids = new Int32Array(rows * width);
  const targets = new Int32Array(rows * width).fill(IGNORED);
  for (let row = 0; row < rows; row++) {
    const symbols = randomSymbols(random);
    ids.set([...symbols, COPY, ...symbols.slice(0, -1)], row * width);
    targets.set(symbols, row * width + LENGTH);
  }
  return { shape: [rows, width], ids, targets };
}
