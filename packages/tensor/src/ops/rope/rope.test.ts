import { describe, expect, it } from 'vitest';
import { tensor } from '../../core/create.js';
import { scope } from '../../core/scope.js';
import { buildRopeTables, plainFrequencies, ropeAngles } from '../../nn/rope-tables.js';
import { checkOp, testDevice } from '../../testing/index.js';
import { type RopeAttributes, rope, ropeOp } from './index.js';

// Two products and a sum in float32, of table entries rounded to float32; one rounding each.
const TOLERANCE = { forward: 3e-7, gradient: 3e-7, numeric: 1e-5 };
const POSITIONS = 500;

function ropeCase(shape: readonly number[], pairs: number, attributes: RopeAttributes, positions?: number[]) {
  const { cos, sin } = ropeAngles(plainFrequencies(10_000, 2 * pairs), POSITIONS);
  return {
    inputs: [
      { shape },
      { shape: [POSITIONS, pairs], values: (i: number) => cos[i]! },
      { shape: [POSITIONS, pairs], values: (i: number) => sin[i]! },
      positions && { shape: shape.slice(0, 2), dtype: 'int32' as const, values: (i: number) => positions[i]! },
    ],
    attributes,
  };
}

describe.each(['native', 'hardware'] as const)('rope (%s)', async (variant) => {
  const device = await testDevice(variant);

  it.each(['half', 'interleaved'] as const)('agrees with its reference (layout %s)', async (layout) => {
    const check = async (...args: Parameters<typeof ropeCase>) => checkOp(device, ropeOp, ropeCase(...args), TOLERANCE);
    await check([1, 1, 1, 2], 1, { start: 0, layout });
    await check([2, 7, 3, 16], 8, { start: 0, layout });
    await check([2, 40, 1, 13], 3, { start: 4, layout });
    await check([2, 3, 2, 28], 4, { start: 8, layout });
    await check([3, 5, 4, 64], 16, { start: 32, layout });
    await check([1, 63, 3, 6], 3, { start: 0, layout });
    await check([1, 500, 1, 4], 2, { start: 0, layout });
    // Many heads: on a GPU an invocation turns two, or four, of a token.
    await check([1, 257, 32, 128], 64, { start: 0, layout });
    await check([1, 400, 28, 192], 64, { start: 64, layout });
    // Documents packed in a row restart; positions outside of the table stay inside it.
    await check([2, 3, 2, 10], 4, { start: 1, layout }, [5, 0, 1, -3, 499, 1_000_000]);
  });

  it('rotates the pairs that each layout names', async () => {
    const tables = buildRopeTables(device, Float64Array.of(Math.PI / 2, 0), 2);
    const x = tensor(device, [1, 2, 3, 4, 5], [1, 1, 1, 5]);
    const positions = tensor(device, Int32Array.of(1), [1, 1]);
    // A quarter turn takes (a, b) to (−b, a), exactly but for float32's cos(π/2): of (1, 3) and of (1, 2).
    for (const [layout, expected] of [
      ['half', [-3, 2, 1, 4, 5]],
      ['interleaved', [-2, 3, 1, 4, 5]],
    ] as const) {
      const y = rope(x, tables, positions, { layout });
      (await y.read()).forEach((v, i) => {
        expect(v).toBeCloseTo(expected[i]!, 6);
      });
      y.dispose();
    }
    for (const item of [x, positions, tables.cos, tables.sin]) item.dispose();
  });

  it('gives scores that depend on the distance alone', async () => {
    const tables = buildRopeTables(device, plainFrequencies(500_000, 16), 1000);
    const values = Array.from({ length: 16 }, (_, i) => Math.sin(1 + i * i));
    const score = async (query: number, key: number) => {
      const x = tensor(device, [...values, ...values.map((v) => v * v - 0.3)], [1, 2, 1, 16]);
      const positions = tensor(device, Int32Array.of(query, key), [1, 2]);
      const y = rope(x, tables, positions);
      const got = await y.read();
      for (const item of [x, positions, y]) item.dispose();
      let dot = 0;
      for (let i = 0; i < 16; i++) dot += got[i]! * got[16 + i]!;
      return dot;
    };
    // Angles are exact to 1e-7 at any position because they come from float64.
    expect(await score(997, 990)).toBeCloseTo(await score(7, 0), 5);
    tables.cos.dispose();
    tables.sin.dispose();
  });

  it('takes float16 where the adapter computes in it', async () => {
    if (!device.info.float16) return expect(device.info.float16).toBe(false);
    const testCase = ropeCase([2, 5, 3, 12], 4, { start: 2, layout: 'interleaved' });
    const inputs = [
      { ...testCase.inputs[0]!, dtype: 'float16' as const, values: (i: number) => (i % 9) - 4 },
      ...testCase.inputs.slice(1),
    ];
    // Rounding of the result, and of the upstream gradient, to float16: 2^-11.
    await checkOp(device, ropeOp, { ...testCase, inputs }, { forward: 5e-4, gradient: 1e-3, numeric: 1e-5 });
  });

  it('refuses what does not fit', () => {
    scope(() => {
      const tables = buildRopeTables(device, plainFrequencies(10_000, 8), 4);
      const x = tensor(device, new Float32Array(40), [1, 5, 1, 8]);
      expect(() => rope(x, tables)).toThrow(/rope: tables must be of at least 5 positions/);
      const positions = tensor(device, new Int32Array(5), [1, 5]);
      expect(() => rope(x, tables, positions, { start: 1 })).toThrow(
        /start must leave room for 8 rotated dimensions in heads of 8, got 1/,
      );
      expect(() => rope(x, tables, tensor(device, new Int32Array(5), [5, 1]))).toThrow(
        /rope: positions must be \[1, 5\]/,
      );
    });
  });
});
