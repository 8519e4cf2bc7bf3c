import { describe, expect, it } from 'vitest';
import { tensor } from '../../core/create.js';
import { scope } from '../../core/scope.js';
import { checkOp, testDevice } from '../../testing/index.js';
import { mean, sum, sumOp } from './index.js';

// Sums of up to a few thousand float32 terms in pieces: the error grows with the square root of the number of terms.
const TOLERANCE = { forward: 2e-6, gradient: 1e-6 };

describe('sum and mean', async () => {
  const device = await testDevice();
  it('agree with the reference over any run of dimensions', async () => {
    const cases: [number[], number, number][] = [
      [[1], 0, 1],
      [[63], 0, 1],
      [[3, 500], 1, 2],
      [[500, 3], 0, 1],
      [[2, 3, 5, 7], 1, 3],
      [[2, 1000, 3], 1, 2],
      [[300, 7], 0, 2],
    ];
    for (const [shape, start, end] of cases) {
      for (const keepDimensions of [false, true]) {
        await checkOp(device, sumOp, { inputs: [{ shape }], attributes: { start, end, keepDimensions } }, TOLERANCE);
      }
    }
  });

  it('take negative axes and refuse separate ones', async () => {
    using x = tensor(device, [1, 2, 3, 4, 5, 6], [2, 3]);
    using y = scope(() => mean(x, { axes: [-1] }));
    expect([...(await y.read())]).toEqual([2, 5]);
    expect(() => sum(tensor(device, [1], [1, 1, 1]), { axes: [0, 2] })).toThrow(/neighbouring/);
  });
});
