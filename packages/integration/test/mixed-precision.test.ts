import type { HybridModel } from '@zebra/runtime';
import { crossEntropy, fill, type Tensor, valueAndGradients } from '@zebra/tensor';
import { relativeError, testDevice } from '@zebra/tensor/testing';
import { describe, expect, it } from 'vitest';
import { hiddenStates, int32, joined, randomIds, range } from './support/rows.js';
import { MODEL_KINDS, smallModel } from './support/small-model.js';

const LENGTH = 24;
/** float16 rounds to 2⁻¹¹ at each of the dozen activations between two layers, three layers deep. */
const OUTPUTS = 5e-3;
/** Gradients pass as many activations back, with operands that were rounded on the way forth. */
const GRADIENTS = 2e-2;
/** Those of vectors (biases, norms, decays) are sums over all tokens whose addends cancel: less is left of the digits. */
const VECTOR_GRADIENTS = 0.1;
/** What a trainer would scale the loss by: a power of two, so that it changes no digit. */
const LOSS_SCALE = 1024;

const device = await testDevice();

async function gradientsOf(model: HybridModel, ids: readonly number[]): Promise<Map<string, Float32Array>> {
  const parameters = model.namedParameters();
  const [tokens, targets] = [ids, randomIds(LENGTH, 6)].map((row) => int32(device, [row])) as [Tensor, Tensor];
  const seed = fill(device, [1], LOSS_SCALE);
  const { value, gradients } = valueAndGradients(
    () => crossEntropy({ hidden: model.forward(tokens), head: model.headWeight, targets }),
    parameters,
    { seed },
  );
  const found = new Map<string, Float32Array>();
  for (const [name, gradient] of gradients) {
    expect(gradient.dtype, name).toBe('float32');
    found.set(
      name,
      ((await gradient.read()) as Float32Array).map((v) => v / LOSS_SCALE),
    );
  }
  for (const item of [value, seed, tokens, targets, ...gradients.values()]) item.dispose();
  return found;
}

describe.skipIf(!device.info.float16).each(MODEL_KINDS)('%s in float16', (kind) => {
  const ids = randomIds(LENGTH, 5);

  it('agrees with itself in float32: outputs, gradients, and step by step', async () => {
    const before = device.statistics().liveBuffers;
    const exact = smallModel(device, kind);
    const mixed = smallModel(device, kind, 1, { computeDType: 'float16' });
    const whole = await hiddenStates(exact, { ids: [ids] });
    expect(relativeError(await hiddenStates(mixed, { ids: [ids] }), whole)).toBeLessThan(OUTPUTS);

    const wanted = await gradientsOf(exact, ids);
    const got = await gradientsOf(mixed, ids);
    expect([...got.keys()]).toEqual([...wanted.keys()]);
    for (const [name, gradient] of wanted) {
      const limit = exact.namedParameters().get(name)!.shape.length === 1 ? VECTOR_GRADIENTS : GRADIENTS;
      expect(relativeError(got.get(name)!, gradient), name).toBeLessThan(limit);
    }

    const cache = mixed.newCache(1, LENGTH);
    const parts: Float32Array[] = [];
    for (const [start, size] of [
      [0, 10],
      [10, 1],
      [11, 1],
      [12, 12],
    ] as const) {
      const rows = { ids: [ids.slice(start, start + size)], positions: [range(size, start)] };
      parts.push(await hiddenStates(mixed, rows, cache));
    }
    expect(relativeError(joined(parts), whole)).toBeLessThan(OUTPUTS);
    cache.dispose();
    exact.dispose();
    mixed.dispose();
    expect(device.statistics().liveBuffers).toBe(before);
  });
});
