import { describe, expect, it } from 'vitest';
import { tensor } from '../../core/create.js';
import { valueAndGradients } from '../../core/gradients.js';
import { checkOp, testDevice } from '../../testing/index.js';
import { multiply } from '../pointwise/index.js';
import { sum } from '../reduce/index.js';
import { rmsNorm, rmsNormOp } from './index.js';

// A float32 sum of at most 2052 squares over several partial sums, then a handful of roundings; gradients cancel a little.
const TOLERANCE = { forward: 5e-7, gradient: 2e-6, numeric: 1e-5 };
const HALF = { forward: 5e-4, gradient: 1e-3, numeric: 1e-5 }; // the outputs' own rounding, 2^-11

const cases = (eps: number) => [
  // The gradient of one column is what eps leaves of a cancellation: only a large eps can be compared.
  { inputs: [{ shape: [1, 1] }, { shape: [1] }], attributes: { eps: 1 } },
  { inputs: [{ shape: [3, 63] }, { shape: [63] }], attributes: { eps } },
  { inputs: [{ shape: [2, 3, 5, 64] }, { shape: [64] }], attributes: { eps } },
  { inputs: [{ shape: [70, 500] }, { shape: [500] }], attributes: { eps } },
];

describe('rmsNorm', async () => {
  const device = await testDevice();
  const hardware = await testDevice('hardware');

  it('agrees with its reference, with and without a weight', async () => {
    for (const testCase of cases(1e-5)) {
      await checkOp(device, rmsNormOp, testCase, TOLERANCE);
      await checkOp(device, rmsNormOp, { ...testCase, inputs: [testCase.inputs[0], undefined] }, TOLERANCE);
    }
  });

  it('agrees in its hardware variants', async () => {
    // Rows of some lanes, of a workgroup, of one unit a lane more, and of more than registers hold.
    for (const columns of [63, 256, 1024, 2052, 8196]) {
      const testCase = { inputs: [{ shape: [9, columns] }, { shape: [columns] }], attributes: { eps: 1e-6 } };
      await checkOp(hardware, rmsNormOp, testCase, TOLERANCE);
    }
    await checkOp(
      hardware,
      rmsNormOp,
      { inputs: [{ shape: [3, 1024] }, undefined], attributes: { eps: 1e-6 } },
      TOLERANCE,
    );
    // More rows than workgroups: some take two, the last fewer.
    await checkOp(
      hardware,
      rmsNormOp,
      { inputs: [{ shape: [1501, 1028] }, { shape: [1028] }], attributes: { eps: 1e-6 } },
      TOLERANCE,
    );
  });

  it('sums the weight gradient over many blocks of rows', async () => {
    await checkOp(
      device,
      rmsNormOp,
      { inputs: [{ shape: [8300, 3] }, { shape: [3] }], attributes: { eps: 1e-5 } },
      TOLERANCE,
    );
  });

  it('lets eps rule rows that are nearly zero, and keeps large ones finite', async () => {
    const tiny = { shape: [3, 8], values: (_: number, random: () => number) => 1e-6 * random() };
    const large = { shape: [3, 8], values: (_: number, random: () => number) => 1e15 * (random() - 0.5) };
    for (const input of [tiny, large]) {
      const testCase = { inputs: [input, { shape: [8] }], attributes: { eps: 1e-5 } };
      // No step size suits a numeric derivative at these magnitudes; the reference is checked in the other cases.
      await checkOp(device, rmsNormOp, testCase, { ...TOLERANCE, numeric: Number.POSITIVE_INFINITY });
    }
  });

  it('writes another dtype when asked, and reads float16', async () => {
    if (!device.info.float16) {
      const x = tensor(device, [1, 2, 3, 4], [1, 4]);
      expect(() => rmsNorm(x, undefined, { dtype: 'float16' })).toThrow(/float16/);
      x.dispose();
      return;
    }
    const inputs = [{ shape: [5, 36] }, { shape: [36], dtype: 'float16' as const }];
    await checkOp(device, rmsNormOp, { inputs, attributes: { eps: 1e-5, dtype: 'float16' } }, HALF);
  });

  it('differentiates through the tape and leaks nothing', async () => {
    const before = device.statistics().liveBuffers;
    const x = tensor(device, [3, 4], [1, 2]);
    const w = tensor(device, [2, 1]);
    const { value, gradients } = valueAndGradients(() => {
      const y = rmsNorm(x, w, { eps: 0 });
      return sum(multiply(y, y));
    }, [w]);
    // y = [6, 4]/√12.5, and ∂Σy²/∂w = 2·w·x²/12.5.
    expect(await value.item()).toBeCloseTo(52 / 12.5, 5);
    const [dw] = gradients;
    expect((await dw!.read())[0]).toBeCloseTo(36 / 12.5, 5);
    expect((await dw!.read())[1]).toBeCloseTo(32 / 12.5, 5);
    for (const item of [x, w, value, dw]) item?.dispose();
    expect(device.statistics().liveBuffers).toBe(before);
  });

  it('refuses a weight of another length and integers', () => {
    const x = tensor(device, [1, 2, 3], [1, 3]);
    const w = tensor(device, [1, 2]);
    const ids = tensor(device, Int32Array.of(1, 2));
    expect(() => rmsNorm(x, w)).toThrow(/rmsNorm: weight must be \[3\] for x \[1, 3\], got \[2\]/);
    expect(() => rmsNorm(ids)).toThrow(/rmsNorm: x must be float32 or float16, got int32/);
    for (const item of [x, w, ids]) item.dispose();
  });
});
