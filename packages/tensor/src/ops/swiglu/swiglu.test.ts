import { describe, expect, it } from 'vitest';
import { tensor } from '../../core/create.js';
import { valueAndGradients } from '../../core/gradients.js';
import { checkOp, testDevice } from '../../testing/index.js';
import { sum } from '../reduce/index.js';
import { swiglu, swigluOp } from './index.js';

// exp is allowed a few ulp by WGSL; the rest is a handful of roundings.
const TOLERANCE = { forward: 2e-6, gradient: 4e-6, numeric: 1e-5 };

describe.each(['native', 'hardware'] as const)('swiglu (%s)', async (variant) => {
  const device = await testDevice(variant);

  it('agrees with its reference', async () => {
    // The last but one ends within a workgroup's second half of items, on a GPU.
    for (const shape of [[1], [3, 63], [500], [5, 100], [700], [2, 3, 64]]) {
      await checkOp(device, swigluOp, { inputs: [{ shape }, { shape }], attributes: {} }, TOLERANCE);
    }
  });

  it('is finite and right at large arguments', async () => {
    const at = [-1e30, -200, -88, -30, -15, 0, 15, 88, 200, 1e30];
    const gate = tensor(device, at);
    const up = tensor(
      device,
      at.map(() => 1),
    );
    const y = swiglu(gate, up);
    (await y.read()).forEach((value, i) => {
      const x = at[i]!;
      // An absolute floor of 1e-8 covers x·e^-87 for |x| up to 1e30, which float64 calls 0.
      expect(Math.abs(value - x / (1 + Math.exp(-x))), `at ${x}`).toBeLessThanOrEqual(
        2e-5 * Math.abs(x / (1 + Math.exp(-x))) + 2e-8,
      );
    });
    for (const item of [gate, up, y]) item.dispose();
  });

  it('gives one gradient where one is wanted, and leaks nothing', async () => {
    const before = device.statistics().liveBuffers;
    const gate = tensor(device, [0, 1]);
    const up = tensor(device, [2, 3]);
    for (const wanted of [gate, up]) {
      const { value, gradients } = valueAndGradients(() => sum(swiglu(gate, up)), [wanted]);
      const s = 1 / (1 + Math.exp(-1));
      const expected = wanted === gate ? [1, 3 * s * (2 - s)] : [0, s];
      (await gradients[0]!.read()).forEach((v, i) => {
        expect(v).toBeCloseTo(expected[i]!, 5);
      });
      value.dispose();
      gradients[0]!.dispose();
    }
    gate.dispose();
    up.dispose();
    expect(device.statistics().liveBuffers).toBe(before);
  });

  it('takes float16 where the adapter computes in it, and refuses other shapes', async () => {
    if (device.info.float16) {
      const input = { shape: [9, 20], dtype: 'float16' as const, values: (i: number) => ((i % 17) - 8) / 4 };
      // Rounding of the outputs, 2^-11, and of the upstream gradient.
      await checkOp(
        device,
        swigluOp,
        { inputs: [input, input], attributes: {} },
        { forward: 5e-4, gradient: 1e-3, numeric: 1e-5 },
      );
    }
    const a = tensor(device, [1, 2]);
    const b = tensor(device, [1, 2, 3]);
    expect(() => swiglu(a, b)).toThrow(/swiglu: up must be \[2\] like gate, got \[3\]/);
    a.dispose();
    b.dispose();
  });
});
