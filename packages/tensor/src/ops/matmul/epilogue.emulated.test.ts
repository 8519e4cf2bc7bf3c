import { afterAll, describe, expect, it } from 'vitest';
import { fill, tensor } from '../../core/create.js';
import type { DType } from '../../core/dtype.js';
import { valueAndGradients } from '../../core/gradients.js';
import { scope } from '../../core/scope.js';
import type { Device } from '../../device/device.js';
import { type AdapterChoice, openDevice } from '../../device/open.js';
import { checkOp, normalValues, relativeError, testDevice, uniformSource } from '../../testing/index.js';
import { sum } from '../reduce/index.js';
import { linear, matmulOp } from './index.js';
import { matmulReference } from './reference.js';

// float32 sums of up to 1100 products, as for the product alone.
const TOLERANCE = { forward: 2e-6, gradient: 2e-6, numeric: 1e-5 };
// Operands are exact in float16; outputs, upstream gradients and gradients are rounded to it (2⁻¹¹ each).
const HALF = { forward: 1e-3, gradient: 1e-3, numeric: 1e-5 };
const WEIGHTS = { transposeA: false, transposeB: true };

interface Case {
  readonly sizes: readonly [m: number, n: number, k: number];
  readonly batch?: number;
  readonly added?: readonly ('bias' | 'residual')[];
  /** dtype of the operands, of what is added, and of the result. */
  readonly dtypes?: readonly [DType, DType, DType];
}

/** Products of a (batched) x with one weight, plus a bias, a residual, or both. */
async function check(device: Device, cases: readonly Case[]): Promise<void> {
  for (const { sizes, batch, added = ['bias', 'residual'], dtypes } of cases) {
    const [m, n, k] = sizes;
    const [operands = 'float32', extra = 'float32', dtype = 'float32'] = dtypes ?? [];
    const lead = batch ? [batch] : [];
    // Multiples of 1/8 are exact in float16.
    const values = (_: number, random: () => number) => Math.round(16 * (random() - 0.5)) / 8;
    const inputs = [
      { shape: [...lead, m, k], dtype: operands, values },
      { shape: [n, k], dtype: operands, values },
      added.includes('bias') ? { shape: [n], dtype: extra, values } : undefined,
      added.includes('residual') ? { shape: [...lead, m, n], dtype: extra, values } : undefined,
    ];
    const limits = dtypes?.includes('float16') ? HALF : TOLERANCE;
    await checkOp(device, matmulOp, { inputs, attributes: { ...WEIGHTS, dtype } }, limits);
  }
}

const native = await testDevice();
const hardware = await testDevice('hardware');
const matrix = await testDevice('matrix');

describe('bias and residual', () => {
  it('are added by the kernels of the adapter, to rows, to columns and to pieces of the sum', async () => {
    await check(native, [
      { sizes: [1, 1, 1] },
      { sizes: [3, 5, 7], added: ['bias'] },
      { sizes: [3, 5, 7], added: ['residual'] },
      { sizes: [63, 65, 31] },
      { sizes: [500, 3, 63] },
      { sizes: [3, 63, 500] },
      { sizes: [5, 9, 1100] },
      { sizes: [8, 12, 1100] },
      { sizes: [7, 9, 5], batch: 3 },
      { sizes: [64, 1, 40], batch: 2 },
    ]);
  });

  it('are added by the kernels for hardware', async () => {
    await check(hardware, [
      { sizes: [1, 33, 50] },
      // Lines of whole vectors: few rows have a kernel of their own.
      { sizes: [3, 33, 64], added: ['residual'] },
      { sizes: [3, 33, 64] },
      { sizes: [70, 5, 40] },
      { sizes: [6, 8, 600] },
      { sizes: [65, 70, 37] },
      { sizes: [10, 9, 600] },
    ]);
  });

  it('are each for itself one operand of a batch of matrices', async () => {
    const values = (_: number, random: () => number) => random() - 0.5;
    const inputs = [[3, 7, 5], [3, 9, 5], [9], [3, 7, 9]].map((shape) => ({ shape, values }));
    await checkOp(native, matmulOp, { inputs, attributes: WEIGHTS }, TOLERANCE);
  });

  it.runIf(native.info.float16)('have dtypes of their own', async () => {
    await check(native, [
      { sizes: [33, 34, 35], dtypes: ['float16', 'float32', 'float16'] },
      { sizes: [33, 36, 35], dtypes: ['float16', 'float32', 'float32'] },
      { sizes: [4, 36, 700], dtypes: ['float16', 'float16', 'float32'] },
    ]);
  });

  it.runIf(matrix.info.subgroupMatrix.length > 0)('are added by the matrix units', async () => {
    await check(matrix, [
      // Whole vectors of the output, edges that fit no tile, elements, and pieces of the sum.
      { sizes: [72, 100, 64], dtypes: ['float16', 'float32', 'float32'] },
      { sizes: [66, 45, 40], dtypes: ['float16', 'float16', 'float16'] },
      { sizes: [40, 36, 600], dtypes: ['float16', 'float32', 'float16'] },
    ]);
  });
});

describe('bias and residual without subgroups', async () => {
  const adapter = (process.env['ZEBRA_TEST_ADAPTER'] ?? 'auto') as AdapterChoice;
  const device = await openDevice({ adapter, poison: true, software: true, subgroups: false });
  afterAll(() => device.destroy());

  it('are added', async () => {
    await check(device, [{ sizes: [1, 5, 3] }, { sizes: [17, 9, 600] }, { sizes: [70, 3, 20] }]);
  });
});

describe('linear with a residual', () => {
  it('adds it, also to a single row, and hands its gradient on', async () => {
    const live = native.statistics().liveBuffers;
    const random = uniformSource(3);
    for (const lead of [[], [2, 3]]) {
      const hosts = [[...lead, 5], [4, 5], [4], [...lead, 4]].map((shape) => normalValues(shape, random));
      const inputs = hosts.map((host) => tensor(native, host.data, host.shape));
      const [x, weight, bias, residual] = inputs;
      const { value, gradients } = valueAndGradients(() => {
        const y = linear(x!, weight!, bias, { residual: residual! });
        return { loss: sum(y), y };
      }, inputs);
      expect(value.y.shape).toEqual([...lead, 4]);
      const rows = { shape: [hosts[0]!.data.length / 5, 5], data: hosts[0]!.data };
      const wanted = matmulReference(rows, hosts[1]!, WEIGHTS, hosts[2], hosts[3]);
      expect(relativeError(await value.y.read(), wanted.data)).toBeLessThan(TOLERANCE.forward);
      expect((await gradients[3]!.read()).every((slope) => slope === 1)).toBe(true);
      expect(gradients[3]!.shape).toEqual([...lead, 4]);
      for (const t of [...inputs, value.loss, value.y, ...gradients]) t?.dispose();
    }
    expect(native.statistics().liveBuffers).toBe(live);
  });

  it('takes as many dispatches as without one', () => {
    scope(() => {
      const [x, w, r] = [
        [9, 8],
        [7, 8],
        [9, 7],
      ].map((shape) => fill(native, shape, 1));
      const dispatches = (f: () => void) => {
        const before = native.statistics().dispatches;
        f();
        return native.statistics().dispatches - before;
      };
      expect(dispatches(() => linear(x!, w!, undefined, { residual: r! }))).toBe(dispatches(() => linear(x!, w!)));
    });
  });

  it.runIf(native.info.float16)('is of the dtype of the residual, unless told otherwise', () => {
    scope(() => {
      const [x, w, r] = [
        [3, 8],
        [7, 8],
        [3, 7],
      ].map((shape, i) => fill(native, shape, 1, { dtype: i === 2 ? 'float32' : 'float16' }));
      expect(linear(x!, w!).dtype).toBe('float16');
      expect(linear(x!, w!, undefined, { residual: r! }).dtype).toBe('float32');
      expect(linear(x!, w!, undefined, { residual: r!, dtype: 'float16' }).dtype).toBe('float16');
    });
  });

  it('refuses what does not fit', () => {
    scope(() => {
      const t = (...shape: number[]) => fill(native, shape, 1);
      expect(() => linear(t(3, 8), t(7, 8), undefined, { residual: t(3, 8) })).toThrow(
        /linear: residual must be \[3, 7\], got \[3, 8\]/,
      );
      expect(() => linear(t(3, 8), t(7, 8), t(8))).toThrow(/linear: bias must be \[7\], got \[8\]/);
      const whole = fill(native, [3, 7], 1, { dtype: 'int32' });
      expect(() => linear(t(3, 8), t(7, 8), undefined, { residual: whole })).toThrow(/residual must be float32 or/);
    });
  });
});
