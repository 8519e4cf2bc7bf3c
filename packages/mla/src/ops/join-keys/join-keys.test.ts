import { scope, tensor } from '@zebra/tensor';
import { checkOp, normalValues, relativeError, testDevice, uniformSource } from '@zebra/tensor/testing';
import { describe, expect, it } from 'vitest';
import { joinKeys, joinKeysOp } from './index.js';

// The forward copies; the gradient of the rotary key adds up as many float32 numbers as there are heads.
const TOLERANCE = { forward: 0, gradient: 1e-6, numeric: 1e-5 };

describe('joinKeys', async () => {
  const device = await testDevice();

  it.each([
    { kv: [1, 1, 1, 2], rope: 2, nopeSize: 1 },
    { kv: [3, 5, 2, 21], rope: 6, nopeSize: 8 },
    { kv: [2, 7, 4, 48], rope: 16, nopeSize: 16 },
    { kv: [1, 63, 3, 24], rope: 4, nopeSize: 4 },
    { kv: [1, 500, 1, 7], rope: 2, nopeSize: 3 },
  ])('agrees with its reference: %j', async ({ kv, rope, nopeSize }) => {
    const inputs = [{ shape: kv }, { shape: [kv[0]!, kv[1]!, rope] }];
    await checkOp(device, joinKeysOp, { inputs, attributes: { nopeSize } }, TOLERANCE);
  });

  it('passes on the gradients of v, and of both', async () => {
    const random = uniformSource(3);
    const attributes = { nopeSize: 8 };
    for (const rope of [4, 6]) {
      const hosts = [normalValues([2, 3, 2, 20], random), normalValues([2, 3, rope], random)];
      const both = [normalValues([2, 3, 2, 8 + rope], random), normalValues([2, 3, 2, 12], random)];
      for (const kept of [both, [undefined, both[1]]]) {
        const inputs = hosts.map((host) => tensor(device, host.data, host.shape));
        const gradients = kept.map((host) => host && tensor(device, host.data, host.shape));
        const got = scope(() => [
          ...joinKeysOp.backward!({ device, inputs, outputs: [], gradients, attributes, needs: [true, true] }),
        ]);
        const wanted = joinKeysOp.reference.backward!(hosts, attributes, kept);
        expect(relativeError(await got[0]!.read(), wanted[0]!.data)).toBe(0);
        // Without a gradient of k there is none of the rotary key.
        if (kept[0]) expect(relativeError(await got[1]!.read(), wanted[1]!.data)).toBeLessThan(1e-6);
        else expect(got[1]).toBeUndefined();
        for (const item of [...inputs, ...gradients, ...got]) item?.dispose();
      }
    }
  });

  it('refuses what does not fit', () => {
    scope(() => {
      const kv = tensor(device, new Float32Array(24), [1, 2, 3, 4]);
      expect(() => joinKeys(kv, tensor(device, [1, 2], [1, 1, 2]), 2)).toThrow(/joinKeys: rope must be \[1, 2, rope\]/);
      expect(() => joinKeys(kv, tensor(device, [1, 2], [1, 2, 1]), 4)).toThrow(
        /nopeSize must be an integer from 1 to 3/,
      );
      expect(() => joinKeys(tensor(device, [1]), kv, 1)).toThrow(/joinKeys: kv must be \[B, T, heads, nope \+ value\]/);
    });
  });
});
