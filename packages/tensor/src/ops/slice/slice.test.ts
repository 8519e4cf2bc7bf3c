import { describe, expect, it } from 'vitest';
import { fill, tensor } from '../../core/create.js';
import { valueAndGradients } from '../../core/gradients.js';
import { scope } from '../../core/scope.js';
import { checkOp, testDevice } from '../../testing/index.js';
import { multiply } from '../pointwise/index.js';
import { sum } from '../reduce/index.js';
import { slice, sliceOp, split, splitOp } from './index.js';

// Copies are exact.
const EXACT = { forward: 0, gradient: 0 };

describe('slice', async () => {
  const device = await testDevice();

  it('agrees with its reference along every axis', async () => {
    for (const [shape, axis, start, length] of [
      [[1], 0, 0, 1],
      [[500], 0, 3, 63],
      [[63, 3], 0, 62, 1],
      [[63, 3], 1, 1, 2],
      [[3, 16, 4], 1, 4, 8],
      [[5, 20], 1, 8, 4],
      [[2, 7, 3, 5], 2, 0, 2],
    ] as const) {
      await checkOp(device, sliceOp, { inputs: [{ shape }], attributes: { axis, start, length } }, EXACT);
    }
  });

  it('copies integers, and counts axes from the end', async () => {
    const ids = tensor(device, Int32Array.of(1, 2, 3, 4, 5, 6), [2, 3]);
    const part = slice(ids, -1, 1, 2);
    expect(part.dtype).toBe('int32');
    expect([...(await part.read())]).toEqual([2, 3, 5, 6]);
    ids.dispose();
    part.dispose();
  });

  it('refuses ranges outside of the tensor', () => {
    scope(() => {
      const x = fill(device, [2, 3], 1);
      expect(() => slice(x, 2, 0, 1)).toThrow(/slice: axis must be a dimension of 2, got 2/);
      expect(() => slice(x, 1, 1, 3)).toThrow(/within 3, got 1 and 3/);
      expect(() => slice(x, 1, -1, 2)).toThrow(/within 3/);
      expect(() => slice(x, 1, 0, 0)).toThrow(/at least one/);
      expect(() => slice(fill(device, [2], 0, { dtype: 'int32' }), 0, 0.5, 1)).toThrow(/range/);
    });
  });
});

describe('split', async () => {
  const device = await testDevice();

  it('agrees with its reference; parts that get no gradient give zeros', async () => {
    for (const [shape, axis, sizes] of [
      [[7], 0, [7]],
      [[63, 3], 0, [1, 60, 2]],
      [[3, 20, 2], 1, [8, 12]],
      [[5, 9], 1, [4, 4, 1]],
    ] as const) {
      await checkOp(device, splitOp, { inputs: [{ shape }], attributes: { axis, sizes } }, EXACT);
    }
  });

  it('puts the gradients of all parts together, and frees everything', async () => {
    const before = device.statistics().liveBuffers;
    const x = tensor(device, [1, 2, 3, 4, 5, 6], [2, 3]);
    const { value, gradients } = valueAndGradients(() => {
      const [left, right] = split(x, 1, [1, 2]) as [typeof x, typeof x];
      return sum(multiply(left, right));
    }, [x]);
    expect(await value.item()).toBe(1 * (2 + 3) + 4 * (5 + 6));
    expect([...(await gradients[0]!.read())]).toEqual([5, 1, 1, 11, 4, 4]);
    for (const t of [x, value, ...gradients]) t?.dispose();
    expect(device.statistics().liveBuffers).toBe(before);
  });

  it('refuses sizes that do not add up', () => {
    scope(() => {
      const x = fill(device, [2, 3], 1);
      expect(() => split(x, 1, [1, 1])).toThrow(
        /split: sizes must be positive integers that add up to 3, got \[1, 1\]/,
      );
      expect(() => split(x, 1, [3, 0])).toThrow(/positive/);
      expect(() => split(x, 1, [])).toThrow(/add up/);
    });
  });
});
