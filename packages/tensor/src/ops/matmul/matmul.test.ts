import { afterAll, describe, expect, it } from 'vitest';
import { fill, tensor } from '../../core/create.js';
import { valueAndGradients } from '../../core/gradients.js';
import { scope } from '../../core/scope.js';
import { elementCount, type Shape } from '../../core/shape.js';
import type { Device } from '../../device/device.js';
import { type AdapterChoice, openDevice } from '../../device/open.js';
import { checkOp, normalValues, relativeError, testDevice, uniformSource } from '../../testing/index.js';
import { sum } from '../reduce/index.js';
import { linear, matmul, matmulInto, matmulOp } from './index.js';
import { matmulReference } from './reference.js';

// float32 sums of up to 1100 products, in one order or in a few pieces: a relative error of about √k · 6e-8.
const TOLERANCE = { forward: 2e-6, gradient: 2e-6, numeric: 1e-5 };
// Outputs and operands that are rounded to float16 (2⁻¹¹ each).
const HALF = { forward: 1e-3, gradient: 1e-3, numeric: 1e-5 };

const TRANSPOSES = [
  { transposeA: false, transposeB: false },
  { transposeA: false, transposeB: true },
  { transposeA: true, transposeB: false },
  { transposeA: true, transposeB: true },
];

type Sizes = readonly [m: number, n: number, k: number];

function shapesOf([m, n, k]: Sizes, { transposeA, transposeB }: (typeof TRANSPOSES)[number]): [Shape, Shape] {
  return [transposeA ? [k, m] : [m, k], transposeB ? [n, k] : [k, n]];
}

async function checkAll(device: Device, sizes: readonly Sizes[]): Promise<void> {
  for (const size of sizes) {
    for (const transposes of TRANSPOSES) {
      const inputs = shapesOf(size, transposes).map((shape) => ({ shape }));
      await checkOp(device, matmulOp, { inputs, attributes: transposes }, TOLERANCE);
    }
  }
}

describe('matmul', async () => {
  const device = await testDevice();

  it('agrees with its reference over awkward sizes and all transposes', async () => {
    await checkAll(device, [
      [1, 1, 1],
      [3, 2, 5],
      [1, 63, 50],
      [63, 1, 17],
      [17, 33, 1],
      [63, 65, 31],
      [500, 3, 63],
      [3, 63, 500],
      [16, 32, 64],
      [5, 100, 7],
    ]);
  });

  it('cuts long sums over few outputs into pieces', async () => {
    await checkAll(device, [[5, 9, 1100]]);
    await checkOp(
      device,
      matmulOp,
      { inputs: [{ shape: [1100, 20] }, { shape: [1100, 33] }], attributes: { transposeA: true, transposeB: false } },
      TOLERANCE,
    );
  });

  it('batches, and shares a single matrix across a batch', async () => {
    for (const transposes of TRANSPOSES) {
      const [a, b] = shapesOf([7, 9, 5], transposes);
      for (const [leadA, leadB] of [
        [[3], [3]],
        [
          [2, 3],
          [2, 3],
        ],
        [[2, 3], []],
        [[], [4]],
        [[1], [2, 2]],
        [[1, 1], [1]],
      ]) {
        const inputs = [{ shape: [...leadA!, ...a] }, { shape: [...leadB!, ...b] }];
        await checkOp(device, matmulOp, { inputs, attributes: transposes }, TOLERANCE);
      }
    }
  });

  it('computes only the gradients that are wanted', () => {
    scope(() => {
      const a = fill(device, [3, 4], 1);
      const b = fill(device, [4, 5], 1);
      const g = fill(device, [3, 5], 1);
      const attributes = { transposeA: false, transposeB: false };
      const call = { device, inputs: [a, b], outputs: [g], gradients: [g], attributes };
      const first = matmulOp.backward!({ ...call, needs: [true, false] });
      const second = matmulOp.backward!({ ...call, needs: [false, true] });
      expect(first.map((t) => t?.shape)).toEqual([[3, 4], undefined, undefined, undefined]);
      expect(second.map((t) => t?.shape)).toEqual([undefined, [4, 5], undefined, undefined]);
    });
  });

  it('refuses operands that do not fit', () => {
    scope(() => {
      const t = (...shape: number[]) => fill(device, shape, 1);
      expect(() => matmul(t(3, 4), t(5, 6))).toThrow(/matmul: b must be \[\.\.\., 4, N\], got \[5, 6\]/);
      expect(() => matmul(t(3, 4), t(5, 6), { transposeB: true })).toThrow(/b must be \[\.\.\., N, 4\]/);
      expect(() => matmul(t(4), t(4, 6))).toThrow(/a must be \[\.\.\., M, K\], got \[4\]/);
      expect(() => matmul(t(2, 3, 4), t(3, 4, 5))).toThrow(/b must be two-dimensional or batched as \[2, \.\.\.\]/);
      expect(() => matmul(fill(device, [3, 4], 1, { dtype: 'int32' }), t(4, 5))).toThrow(
        /a must be float32 or float16, got int32/,
      );
    });
  });
});

// Each pipeline of these takes a software adapter a second or two to compile, so cases are few.
describe('matmul with the variants for hardware', async () => {
  const device = await testDevice('hardware');

  it('agrees with its reference for few rows and few columns', async () => {
    const rowsTimesWeights = { transposeA: false, transposeB: true };
    for (const [m, n, k] of [
      [1, 33, 50],
      [1, 5, 40],
      [6, 7, 600],
    ]) {
      const inputs = [{ shape: [m!, k!] }, { shape: [n!, k!] }];
      await checkOp(device, matmulOp, { inputs, attributes: rowsTimesWeights }, TOLERANCE);
    }
  });

  it('agrees with its reference in small tiles, and in pieces of the sum', async () => {
    await checkAll(device, [
      [65, 70, 37],
      [10, 9, 600],
    ]);
  });

  it('agrees with its reference in large tiles', async () => {
    // The large tile is for outputs of many tiles: here 128 matrices that fill only a corner of one, and 32 of four.
    const random = uniformSource(7);
    for (const [batch, m, n, k, transpose] of [
      [128, 9, 10, 11, true],
      [32, 130, 140, 9, false],
    ] as const) {
      const transposes = { transposeA: transpose, transposeB: transpose };
      const [a, b] = shapesOf([m, n, k], transposes).map((shape) => normalValues([batch, ...shape], random));
      const [deviceA, deviceB] = [a!, b!].map((host) => tensor(device, host.data, host.shape));
      const c = matmul(deviceA!, deviceB!, transposes);
      expect(relativeError(await c.read(), matmulReference(a!, b!, transposes).data)).toBeLessThan(TOLERANCE.forward);
      for (const t of [deviceA!, deviceB!, c]) t.dispose();
    }
  });
});

describe('matmul without subgroups', async () => {
  const adapter = (process.env['ZEBRA_TEST_ADAPTER'] ?? 'auto') as AdapterChoice;
  const device = await openDevice({ adapter, poison: true, software: true, subgroups: false });
  afterAll(() => device.destroy());

  it('agrees with its reference', async () => {
    await checkAll(device, [
      [1, 5, 3],
      [17, 9, 600],
      [33, 66, 20],
    ]);
  });
});

describe('matmulInto', async () => {
  const device = await testDevice();
  const random = uniformSource(5);

  it('writes and adds into rows of a larger tensor, and leaves the others alone', async () => {
    const a = normalValues([7, 10], random);
    const b = normalValues([10, 9], random);
    const before = normalValues([30, 9], random);
    const product = matmulReference(a, b, { transposeA: false, transposeB: false });
    for (const [first, accumulate] of [
      [0, false],
      [5, false],
      [23, true],
    ] as const) {
      const [deviceA, deviceB, whole] = [a, b, before].map((host) => tensor(device, host.data, host.shape)) as [
        ReturnType<typeof tensor>,
        ReturnType<typeof tensor>,
        ReturnType<typeof tensor>,
      ];
      const rows = whole.view({ shape: [7, 9], dtype: 'float32' }, first * 9 * 4);
      matmulInto(rows, deviceA, deviceB, { accumulate, alpha: 0.5 });
      const expected = before.data.map((value, i) => {
        const row = Math.floor(i / 9) - first;
        if (row < 0 || row >= 7) return value;
        return (accumulate ? value : 0) + 0.5 * product.data[i - first * 9]!;
      });
      expect(relativeError(await whole.read(), expected)).toBeLessThan(TOLERANCE.forward);
      for (const t of [deviceA, deviceB, rows, whole]) t.dispose();
    }
  });

  it('reads operands that are rows of a larger tensor', async () => {
    const whole = normalValues([40, 6], random);
    const b = normalValues([6, 5], random);
    const part = { shape: [11, 6], data: whole.data.slice(13 * 6, 24 * 6) };
    const expected = matmulReference(part, b, { transposeA: false, transposeB: false });
    const wholeDevice = tensor(device, whole.data, whole.shape);
    const bDevice = tensor(device, b.data, b.shape);
    const rows = wholeDevice.view({ shape: [11, 6], dtype: 'float32' }, 13 * 6 * 4);
    const out = fill(device, [11, 5], 0);
    matmulInto(out, rows, bDevice);
    expect(relativeError(await out.read(), expected.data)).toBeLessThan(TOLERANCE.forward);
    for (const t of [wholeDevice, bDevice, rows, out]) t.dispose();
  });

  it('sums over the batch into a single matrix', async () => {
    for (const transposes of TRANSPOSES) {
      const [a, b] = shapesOf([6, 5, 7], transposes).map((shape) => normalValues([3, ...shape], random)) as [
        ReturnType<typeof normalValues>,
        ReturnType<typeof normalValues>,
      ];
      const each = matmulReference(a, b, transposes);
      const expected = each.data
        .slice(0, 30)
        .map((value, i) => 1 + 2 * (value + each.data[30 + i]! + each.data[60 + i]!));
      const [deviceA, deviceB] = [a, b].map((host) => tensor(device, host.data, host.shape));
      const out = fill(device, [6, 5], 1);
      matmulInto(out, deviceA!, deviceB!, { ...transposes, accumulate: true, alpha: 2 });
      expect(relativeError(await out.read(), expected)).toBeLessThan(TOLERANCE.forward);
      for (const t of [deviceA!, deviceB!, out]) t.dispose();
    }
  });

  it('refuses outputs that do not fit or that it reads from', () => {
    scope(() => {
      const a = fill(device, [3, 3], 1);
      expect(() => matmulInto(fill(device, [3, 4], 0), a, a)).toThrow(/matmulInto: out must be \[3, 3\], got \[3, 4\]/);
      expect(() => matmulInto(a, a, fill(device, [3, 3], 1))).toThrow(/shares memory/);
    });
  });
});

describe('linear', async () => {
  const device = await testDevice();

  it('is x · weightᵀ + bias, with gradients of all three, and frees everything', async () => {
    const live = device.statistics().liveBuffers;
    const random = uniformSource(3);
    for (const shape of [[5], [2, 3, 5]]) {
      const [x, weight, bias] = [shape, [4, 5], [4]].map((each) => normalValues(each, random));
      const [xDevice, weightDevice, biasDevice] = [x!, weight!, bias!].map((host) =>
        tensor(device, host.data, host.shape),
      );
      const rows = elementCount(shape) / 5;
      const { value, gradients } = valueAndGradients(() => {
        const y = linear(xDevice!, weightDevice!, biasDevice!);
        return { loss: sum(y), y };
      }, [xDevice!, weightDevice!, biasDevice!]);
      expect(value.y.shape).toEqual([...shape.slice(0, -1), 4]);
      const product = matmulReference({ shape: [rows, 5], data: x!.data }, weight!, {
        transposeA: false,
        transposeB: true,
      });
      const expected = product.data.map((v, i) => v + bias!.data[i % 4]!);
      expect(relativeError(await value.y.read(), expected)).toBeLessThan(TOLERANCE.forward);
      expect([...(await gradients[2]!.read())]).toEqual([rows, rows, rows, rows]);
      const columnSums = [0, 1, 2, 3, 4].map((c) => [0, 1, 2, 3].reduce((s, r) => s + weight!.data[r * 5 + c]!, 0));
      const wanted = Array.from({ length: rows * 5 }, (_, i) => columnSums[i % 5]!);
      expect(relativeError(await gradients[0]!.read(), wanted)).toBeLessThan(TOLERANCE.gradient);
      for (const t of [xDevice, weightDevice, biasDevice, value.loss, value.y, ...gradients]) t?.dispose();
    }
    expect(device.statistics().liveBuffers).toBe(live);
  });
});

const halfDevice = await testDevice();
describe.runIf(halfDevice.info.float16)('matmul in float16', () => {
  const exact = (_: number, random: () => number) => Math.round(16 * (random() - 0.5)) / 8;
  const half = (shape: Shape) => ({ shape, dtype: 'float16' as const, values: exact });
  const plain = { transposeA: false, transposeB: false };

  it('reads and writes float16, sums in float32', async () => {
    for (const transposes of TRANSPOSES) {
      const inputs = shapesOf([33, 34, 35], transposes).map(half);
      await checkOp(halfDevice, matmulOp, { inputs, attributes: transposes }, HALF);
    }
  });

  it('mixes dtypes, and sums a gradient in float16 over a batch in float32', async () => {
    const mixed = [half([3, 2]), { shape: [2, 4] }];
    await checkOp(halfDevice, matmulOp, { inputs: mixed, attributes: plain }, HALF);
    const widened = { inputs: [half([3, 2]), half([2, 4])], attributes: { ...plain, dtype: 'float32' as const } };
    await checkOp(halfDevice, matmulOp, widened, HALF);
    const shared = [half([3, 4]), half([4, 4, 2])];
    await checkOp(halfDevice, matmulOp, { inputs: shared, attributes: plain }, HALF);
  });

  it('takes the dtype of the result from the operands', () => {
    scope(() => {
      const wide = fill(halfDevice, [2, 2], 1);
      const narrow = fill(halfDevice, [2, 2], 1, { dtype: 'float16' });
      expect(matmul(narrow, narrow).dtype).toBe('float16');
      expect(matmul(narrow, wide).dtype).toBe('float32');
      expect(matmul(narrow, narrow, { dtype: 'float32' }).dtype).toBe('float32');
    });
  });
});
