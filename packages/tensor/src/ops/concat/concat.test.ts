import { describe, expect, it } from 'vitest';
import { fill, tensor } from '../../core/create.js';
import { scope } from '../../core/scope.js';
import { checkOp, testDevice } from '../../testing/index.js';
import { concat, concatOp } from './index.js';

// Copies are exact.
const EXACT = { forward: 0, gradient: 0 };

describe('concat', async () => {
  const device = await testDevice();

  it('agrees with its reference along every axis', async () => {
    for (const [shapes, axis] of [
      [[[1]], 0],
      [[[500], [3], [63]], 0],
      [
        [
          [3, 4],
          [3, 8],
        ],
        1,
      ],
      [
        [
          [2, 3, 5],
          [2, 1, 5],
          [2, 6, 5],
        ],
        1,
      ],
      [
        [
          [2, 3, 1],
          [2, 3, 6],
        ],
        2,
      ],
    ] as const) {
      const inputs = shapes.map((shape) => ({ shape }));
      await checkOp(device, concatOp, { inputs, attributes: { axis } }, EXACT);
    }
  });

  it('takes one tensor twice, integers, and axes from the end', async () => {
    const ids = tensor(device, Int32Array.of(1, 2, 3, 4), [2, 2]);
    const both = concat([ids, ids], -1);
    expect([...(await both.read())]).toEqual([1, 2, 1, 2, 3, 4, 3, 4]);
    ids.dispose();
    both.dispose();
  });

  it('refuses tensors that do not fit', () => {
    scope(() => {
      const x = fill(device, [2, 3], 1);
      expect(() => concat([], 0)).toThrow(/at least one tensor/);
      expect(() => concat([x, fill(device, [3, 3], 1)], 1)).toThrow(/concat: tensor 1 must be \[2, \?\], got \[3, 3\]/);
      expect(() => concat([x, fill(device, [2], 1)], 0)).toThrow(/tensor 1/);
      expect(() => concat([x, fill(device, [2, 3], 1, { dtype: 'int32' })], 0)).toThrow(
        /tensor 1 must be float32, got int32/,
      );
    });
  });
});
