import { describe, expect, it } from 'vitest';
import { tensor } from '../../core/create.js';
import type { DType } from '../../core/dtype.js';
import type { Device } from '../../device/device.js';
import { openDevice } from '../../device/open.js';
import { checkOp, testDevice } from '../../testing/index.js';
import { project, projectOp } from './index.js';

interface Case {
  readonly rows: number;
  readonly size: number;
  /** Rows of each weight. */
  readonly weights: readonly number[];
  readonly width?: number;
  readonly start?: number;
  readonly norm?: boolean;
  readonly residual?: boolean;
  readonly gated?: boolean;
}

const half = (_: number, random: () => number) => Math.round((random() - 0.5) * 512) / 256;

function opCase(c: Case, x: DType, weight: DType, y: DType) {
  const { rows, size, weights, width = size, start = 0, gated = false } = c;
  const columns = gated ? weights[0]! : weights.reduce((sum, n) => sum + n, 0);
  const weightAt = (i: number) =>
    weights[i] === undefined ? undefined : { shape: [weights[i]!, size], dtype: weight, values: half };
  return {
    inputs: [
      { shape: [rows, 1, width], dtype: x, values: half },
      weightAt(0),
      weightAt(1),
      weightAt(2),
      c.norm ? { shape: [size] } : undefined,
      c.residual ? { shape: [rows, 1, columns] } : undefined,
    ],
    attributes: { start, eps: 1e-5, gated, dtype: y },
  };
}

const CASES: readonly Case[] = [
  { rows: 1, size: 8, weights: [1] },
  { rows: 1, size: 512, weights: [500], norm: true },
  { rows: 1, size: 1032, weights: [63, 3, 1], norm: true },
  { rows: 3, size: 264, weights: [64, 32], norm: true },
  { rows: 8, size: 72, weights: [1500], residual: true },
  { rows: 5, size: 40, weights: [4100], norm: true, residual: true },
  { rows: 2, size: 520, weights: [260, 260], norm: true, gated: true },
  { rows: 1, size: 136, weights: [2050, 2050], norm: true, gated: true },
  { rows: 7, size: 64, weights: [21], width: 96, start: 24, norm: true },
  // Composed: too many rows, and rows that are no vectors.
  { rows: 9, size: 64, weights: [16, 8], norm: true, residual: true },
  { rows: 3, size: 63, weights: [5, 5], norm: true, gated: true, residual: true },
  // Every weight's columns in their place, of sums that are cut into pieces too.
  { rows: 12, size: 1100, weights: [36, 8, 5], norm: true },
  { rows: 40, size: 1088, weights: [64, 32, 1], norm: true },
  { rows: 9, size: 64, weights: [16], norm: true, residual: true },
  { rows: 9, size: 40, weights: [16, 16], norm: true, gated: true },
  { rows: 2, size: 63, weights: [5], width: 70, start: 3 },
];

// Sums of up to 1032 float32 products, in another order than the reference's.
const FLOAT = { forward: 2e-6, gradient: 0 };
// Inputs are exact in float16; the result is rounded to it, as is a composed norm's.
const HALF = { forward: 1e-3, gradient: 0 };

describe.each(['native', 'hardware'] as const)('project (%s)', async (variant) => {
  const device = await testDevice(variant);

  it.each(CASES)('agrees with its reference: %o', async (c) => {
    await checkOp(device, projectOp, opCase(c, 'float32', 'float32', 'float32'), FLOAT);
    if (!device.info.float16) return;
    await checkOp(device, projectOp, opCase(c, 'float32', 'float16', 'float16'), HALF);
    await checkOp(device, projectOp, opCase(c, 'float16', 'float16', 'float32'), HALF);
  });
});

describe('project', () => {
  it('needs no subgroups', async () => {
    const device = await openDevice({
      adapter: (process.env['ZEBRA_TEST_ADAPTER'] ?? 'auto') as 'auto',
      software: false,
      subgroups: false,
      poison: true,
    });
    for (const c of CASES.slice(0, 2)) {
      await checkOp(device, projectOp, opCase(c, 'float32', 'float32', 'float32'), FLOAT);
    }
    device.destroy();
  });

  it('is one dispatch where the kernel serves', async () => {
    const device: Device = await testDevice('hardware');
    const [x, w] = [tensor(device, new Float32Array(64), [1, 64]), tensor(device, new Float32Array(640), [10, 64])];
    const program = device.capture(() =>
      project(x, [w, w, w], { norm: { weight: x.view({ shape: [64], dtype: 'float32' }), eps: 1e-5 } }),
    );
    // Poisoning the output is the other one.
    expect(program.statistics.dispatches).toBe(2);
    for (const item of [program.result, program, x, w]) item.dispose();
  });

  it('says what does not fit', async () => {
    const device = await testDevice();
    const make = (...shape: number[]) => tensor(device, new Float32Array(shape.reduce((a, b) => a * b)), shape);
    const [x, w, wrong] = [make(2, 8), make(3, 8), make(3, 9)];
    expect(() => project(x, [])).toThrow(/one to three weights/);
    expect(() => project(x, [wrong])).toThrow(/project: x must be/);
    expect(() => project(x, [w, wrong])).toThrow(/weights\[1\] must be \[N, 8\]/);
    expect(() => project(x, [w], { gated: true })).toThrow(/gate and up/);
    expect(() => project(x, [w], { residual: w })).toThrow(/residual must be/);
    expect(() => project(x, [w], { norm: { weight: w, eps: 1 } })).toThrow(/norm.weight must be \[8\]/);
    for (const item of [x, w, wrong]) item.dispose();
  });
});
