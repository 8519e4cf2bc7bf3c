import { checkTokenIds, ZebraError } from '@zebra/tensor';
import type { CausalLM } from '@zebra/tensor/nn';
import { IGNORED_TARGET, PADDING_SEGMENT } from '@zebra/tensor/train';
import { scoreBatch } from './token-scores.js';

/** Ids whose end is to be scored. */
export interface Continuation {
  readonly ids: readonly number[];
  /** The first id that counts; at least 1, as the first of all has nothing before it. */
  readonly from: number;
}

/** Options of everything that scores continuations. */
export interface ScoreOptions {
  /** Rows of a batch. Default 16. */
  readonly batchSize?: number;
  /** Ends the evaluation with the signal's reason as an error. */
  readonly signal?: AbortSignal;
  /** Called after every batch with the rows done and all rows. */
  readonly onProgress?: (done: number, total: number) => void;
}

/** Widths of batches are multiples of this, so that few shapes occur. */
const WIDTH = 16;

/**
 * Σ log p of each continuation given what stands before it, in nats. Rows of like length share a batch; the shorter
 * ones are padded on the right, where nothing looks.
 */
export async function scoreContinuations(
  operation: string,
  model: CausalLM,
  items: readonly Continuation[],
  options: ScoreOptions = {},
): Promise<Float64Array> {
  const { batchSize = 16, signal, onProgress } = options;
  if (!Number.isSafeInteger(batchSize) || batchSize < 1) {
    throw new ZebraError('argument', `${operation}: batchSize must be a positive integer, got ${batchSize}`);
  }
  for (const { ids } of items) checkTokenIds(ids, model.vocabularySize);
  const order = [...items.keys()].sort((a, b) => items[b]!.ids.length - items[a]!.ids.length || a - b);
  const sums = new Float64Array(items.length);
  for (let start = 0; start < order.length; start += batchSize) {
    signal?.throwIfAborted();
    const rows = order.slice(start, start + batchSize);
    const width = Math.ceil(items[rows[0]!]!.ids.length / WIDTH) * WIDTH;
    const batch = layOut(
      rows.map((index) => items[index]!),
      width,
    );
    const scores = await scoreBatch(model, batch, [rows.length, width]);
    rows.forEach((index, row) => {
      const { ids, from } = items[index]!;
      for (let t = from - 1; t < ids.length - 1; t++) sums[index]! += scores[row * width + t]!;
      if (!Number.isFinite(sums[index]!)) {
        throw new ZebraError(
          'data',
          `${operation}: a log-probability is ${sums[index]}. Check the weights of the model.`,
        );
      }
    });
    onProgress?.(start + rows.length, order.length);
  }
  return sums;
}

function layOut(items: readonly Continuation[], width: number) {
  const size = items.length * width;
  const ids = new Int32Array(size);
  const targets = new Int32Array(size).fill(IGNORED_TARGET);
  const positions = new Int32Array(size);
  const segments = new Int32Array(size).fill(PADDING_SEGMENT);
  items.forEach((item, row) => {
    item.ids.forEach((id, t) => {
      const at = row * width + t;
      ids[at] = id;
      positions[at] = t;
      segments[at] = 0;
      if (t >= item.from) targets[at - 1] = id;
    });
  });
  return { ids, targets, positions, segments };
}
