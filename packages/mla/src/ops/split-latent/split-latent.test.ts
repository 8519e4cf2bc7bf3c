import { hostTensor, scope, tensor } from '@zebra/tensor';
import { checkOp, normalValues, relativeError, testDevice, uniformSource } from '@zebra/tensor/testing';
import { describe, expect, it } from 'vitest';
import { joinLatent, splitLatent, splitLatentOp } from './index.js';

// Copies: bit for bit.
const EXACT = { forward: 0, gradient: 0, numeric: 1e-5 };

describe('splitLatent', async () => {
  const device = await testDevice();
  const random = uniformSource(7);

  it.each([
    [[1, 1, 2], 1],
    [[3, 5, 63], 41],
    [[2, 7, 48], 32],
    [[1, 500, 12], 4],
  ])('agrees with its reference, %j cut at %i', async (shape, latentSize) => {
    await checkOp(device, splitLatentOp, { inputs: [{ shape }], attributes: { latentSize } }, EXACT);
  });

  it('passes on the gradients of either part, and of both', async () => {
    for (const [size, latentSize] of [
      [7, 3],
      [12, 8],
    ] as const) {
      const x = hostTensor([2, 3, size]);
      const parts = [normalValues([2, 3, latentSize], random), normalValues([2, 3, size - latentSize], random)];
      for (const kept of [parts, [undefined, parts[1]]]) {
        using input = tensor(device, x.data, x.shape);
        const gradients = kept.map((part) => part && tensor(device, part.data, part.shape));
        const attributes = { latentSize };
        const [got] = scope(() => [
          ...splitLatentOp.backward!({ device, inputs: [input], outputs: [], gradients, attributes, needs: [true] }),
        ]);
        const [wanted] = splitLatentOp.reference.backward!([x], attributes, kept);
        expect(relativeError(await got!.read(), wanted!.data)).toBe(0);
        for (const item of [got, ...gradients]) item?.dispose();
      }
    }
  });

  it('is undone by joinLatent', async () => {
    const host = normalValues([2, 3, 20], random);
    using x = tensor(device, host.data, host.shape);
    using rows = scope(() => joinLatent(...splitLatent(x, 12)));
    expect(rows.shape).toEqual([2, 3, 20]);
    expect(relativeError(await rows.read(), host.data)).toBe(0);
  });

  it('refuses what does not fit', () => {
    scope(() => {
      const x = tensor(device, new Float32Array(8), [1, 2, 4]);
      expect(() => splitLatent(x, 4)).toThrow(/splitLatent: latentSize must be an integer from 1 to 3, got 4/);
      expect(() => splitLatent(tensor(device, [1, 2]), 1)).toThrow(/splitLatent: x must be \[B, T, latent \+ rope\]/);
      expect(() => splitLatent(tensor(device, Int32Array.of(1, 2), [1, 1, 2]), 1)).toThrow(/float32 or float16/);
      expect(() => joinLatent(x, tensor(device, [1, 2], [1, 1, 2]))).toThrow(/joinLatent: rope must be \[1, 2, rope\]/);
    });
  });
});
