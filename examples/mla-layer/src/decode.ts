import { argmax, linear, reshape, scope, tensor } from '@zebra/tensor';
import type { SequenceCache } from '@zebra/tensor/nn';
import { type CopyModel, HIDDEN } from './model.js';
import { COPY, LENGTH, VOCABULARY } from './task.js';

/** Runs some more tokens of one row through the model. Gives the hidden states, [tokens, HIDDEN] row-major. */
async function pass(model: CopyModel, cache: SequenceCache, ids: readonly number[]): Promise<Float32Array> {
  const { device } = model;
  const first = cache.length;
  const hidden = scope(() =>
    model.forward(tensor(device, Int32Array.from(ids), [1, ids.length]), {
      cache,
      positions: tensor(
        device,
        ids.map((_, index) => first + index),
        [1, ids.length],
        { dtype: 'int32' },
      ),
    }),
  );
  const values = (await hidden.read()) as Float32Array;
  hidden.dispose();
  return values;
}

/**
 * Runs a sequence twice: all tokens at once (a prefill, for which the layer makes keys and values of the latents), and
 * one after another (decoding, which attends to the cached latents themselves). Both are the same function.
 *
 * @returns the largest difference between the two, and the largest number that was compared
 */
export async function comparePasses(
  model: CopyModel,
  ids: readonly number[],
): Promise<{ readonly difference: number; readonly largest: number }> {
  const whole = model.newCache(1, ids.length);
  const stepwise = model.newCache(1, ids.length);
  const prefilled = await pass(model, whole, ids);
  let difference = 0;
  let largest = 0;
  for (const [at, id] of ids.entries()) {
    for (const [i, value] of (await pass(model, stepwise, [id])).entries()) {
      const other = prefilled[at * HIDDEN + i]!;
      difference = Math.max(difference, Math.abs(value - other));
      largest = Math.max(largest, Math.abs(other));
    }
  }
  whole.dispose();
  stepwise.dispose();
  return { difference, largest };
}

/** Lets the model copy symbols: a prefill of the prompt, then a token at a time, the most probable one. */
export async function copySymbols(model: CopyModel, symbols: readonly number[]): Promise<number[]> {
  const cache = model.newCache(1, 2 * LENGTH);
  const copied: number[] = [];
  let next: readonly number[] = [...symbols, COPY];
  while (copied.length < LENGTH) {
    const hidden = await pass(model, cache, next);
    const id = await mostProbable(model, hidden.subarray(-HIDDEN));
    copied.push(id);
    next = [id];
  }
  cache.dispose();
  return copied;
}

async function mostProbable(model: CopyModel, hidden: Float32Array): Promise<number> {
  const best = scope(() => {
    const logits = linear(tensor(model.device, hidden, [1, HIDDEN]), model.head);
    return argmax(reshape(logits, [1, VOCABULARY]));
  });
  const [id] = await best.read();
  best.dispose();
  return id!;
}
