import { ZebraError } from '@zebra/tensor';

/** Prompts as one batch, row-major [rows, length] each: shorter ones are padded on the left. */
export interface PromptBatch {
  readonly rows: number;
  readonly length: number;
  readonly ids: Int32Array;
  /** From 0 at the first real token. */
  readonly positions: Int32Array;
  /** 0, and −1 for padding; undefined where no row is padded. */
  readonly segments: Int32Array | undefined;
  /** Tokens of each prompt. */
  readonly lengths: readonly number[];
}

/**
 * Puts prompts together, so that all end in the same column.
 *
 * @throws ZebraError `argument` without prompts, `data` for an empty prompt or an id outside the vocabulary
 */
export function padPrompts(
  operation: string,
  prompts: readonly ArrayLike<number>[],
  vocabularySize: number,
): PromptBatch {
  if (prompts.length === 0) throw new ZebraError('argument', `${operation}: no prompts were given`);
  const lengths = prompts.map((prompt) => prompt.length);
  const length = Math.max(...lengths);
  const rows = prompts.length;
  const ids = new Int32Array(rows * length);
  const positions = new Int32Array(rows * length);
  const segments = new Int32Array(rows * length).fill(-1);
  prompts.forEach((prompt, row) => {
    if (prompt.length === 0) {
      throw new ZebraError('data', `${operation}: prompt ${row} has no tokens. Begin it with the BOS token at least.`);
    }
    const start = row * length + length - prompt.length;
    for (let i = 0; i < prompt.length; i++) {
      const id = prompt[i]!;
      if (!(Number.isInteger(id) && id >= 0 && id < vocabularySize)) {
        throw new ZebraError(
          'data',
          `${operation}: prompt ${row} has ${id} at position ${i}; expected an id from 0 to ${vocabularySize - 1}`,
        );
      }
      ids[start + i] = id;
      positions[start + i] = i;
      segments[start + i] = 0;
    }
  });
  const padded = lengths.some((each) => each !== length);
  return { rows, length, ids, positions, segments: padded ? segments : undefined, lengths };
}
