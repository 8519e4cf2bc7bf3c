import { describe, expect, it } from 'vitest';
import { tensor } from '../../core/create.js';
import { valueAndGradients } from '../../core/gradients.js';
import { scope } from '../../core/scope.js';
import { checkOp, testDevice } from '../../testing/index.js';
import { multiply } from '../pointwise/index.js';
import { sum } from '../reduce/index.js';
import { reshape, reshapeOp } from './index.js';

describe('reshape', async () => {
  const device = await testDevice();

  it('agrees with its reference, exactly', async () => {
    for (const [from, to] of [
      [[1], [1, 1]],
      [
        [3, 63],
        [63, 3],
      ],
      [[500], [2, 5, 50]],
    ] as const) {
      await checkOp(
        device,
        reshapeOp,
        { inputs: [{ shape: from }], attributes: { shape: to } },
        { forward: 0, gradient: 0 },
      );
    }
  });

  it('finds the size that is left open, and shares memory', async () => {
    const x = tensor(device, [1, 2, 3, 4, 5, 6]);
    const y = reshape(x, [2, -1]);
    expect(y.shape).toEqual([2, 3]);
    expect(y.storage).toBe(x.storage);
    x.dispose();
    expect([...(await y.read())]).toEqual([1, 2, 3, 4, 5, 6]);
    y.dispose();
  });

  it('passes gradients through, and frees everything', async () => {
    const before = device.statistics().liveBuffers;
    const x = tensor(device, [1, 2, 3, 4], [2, 2]);
    const { value, gradients } = valueAndGradients(() => {
      const y = reshape(x, [-1]);
      return sum(multiply(y, reshape(y, [4])));
    }, [x]);
    expect(await value.item()).toBe(30);
    expect(gradients[0]!.shape).toEqual([2, 2]);
    expect([...(await gradients[0]!.read())]).toEqual([2, 4, 6, 8]);
    for (const t of [x, value, ...gradients]) t?.dispose();
    expect(device.statistics().liveBuffers).toBe(before);
  });

  it('refuses shapes of another size', () => {
    scope(() => {
      const x = tensor(device, [1, 2, 3, 4, 5, 6]);
      expect(() => reshape(x, [4, 2])).toThrow(/reshape: shape must be of as many elements as \[6\], got \[4, 2\]/);
      expect(() => reshape(x, [4, -1])).toThrow(/at most one −1/);
      expect(() => reshape(x, [-1, -1])).toThrow(/at most one −1/);
      expect(() => reshape(x, [-1, 0])).toThrow(/reshape/);
    });
  });
});
