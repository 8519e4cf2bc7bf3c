import { describe, expect, it } from 'vitest';
import { fill, tensor } from '../../core/create.js';
import { scope } from '../../core/scope.js';
import { checkOp, testDevice } from '../../testing/index.js';
import { permute, permuteOp } from './index.js';

// Copies are exact.
const EXACT = { forward: 0, gradient: 0 };

describe('permute', async () => {
  const device = await testDevice();

  it('agrees with its reference', async () => {
    for (const [shape, order] of [
      [[1], [0]],
      [
        [63, 500],
        [1, 0],
      ],
      [
        [2, 3, 5],
        [0, 2, 1],
      ],
      [
        [3, 4, 5, 8],
        [0, 2, 1, 3],
      ],
      [
        [2, 1, 3, 1, 5],
        [4, 3, 1, 2, 0],
      ],
      [
        [2, 3, 4, 5, 6],
        [4, 2, 0, 3, 1],
      ],
      [
        [2, 3, 2, 2, 2, 3, 2],
        [5, 6, 0, 1, 2, 3, 4],
      ],
      [
        [4, 4],
        [0, 1],
      ],
    ] as const) {
      await checkOp(device, permuteOp, { inputs: [{ shape }], attributes: { order } }, EXACT);
    }
  });

  it('moves integers', async () => {
    const ids = tensor(device, Int32Array.of(1, 2, 3, 4, 5, 6), [2, 3]);
    const turned = permute(ids, [1, 0]);
    expect(turned.shape).toEqual([3, 2]);
    expect([...(await turned.read())]).toEqual([1, 4, 2, 5, 3, 6]);
    ids.dispose();
    turned.dispose();
  });

  it('refuses orders that are none, and more dimensions than it holds', () => {
    scope(() => {
      const x = fill(device, [2, 3], 1);
      expect(() => permute(x, [0])).toThrow(/permute: order must be each dimension of 2 once, got \[0\]/);
      expect(() => permute(x, [0, 0])).toThrow(/once/);
      expect(() => permute(fill(device, [2, 2, 2, 2, 2, 2], 1), [5, 4, 3, 2, 1, 0])).toThrow(/at most 5/);
    });
  });
});
