import { describe, expect, it } from 'vitest';
import { tensor } from '../../core/create.js';
import { scope } from '../../core/scope.js';
import { ZebraError } from '../../errors.js';
import { checkOp, testDevice } from '../../testing/index.js';
import { checkTokenIds, embedding, embeddingOp } from './index.js';

// The forward copies. The gradient is a float32 sum of at most a few hundred values.
const TOLERANCE = { forward: 0, gradient: 1e-6, numeric: 1e-5 };

describe.each(['native', 'hardware'] as const)('embedding (%s)', async (variant) => {
  const device = await testDevice(variant);
  const among = (vocabulary: number) => (_: number, random: () => number) => Math.floor(vocabulary * random());

  it('agrees with its reference, with few and with many tokens of one id', async () => {
    for (const [vocabulary, columns, ...shape] of [
      [1, 1, 1],
      [7, 3, 2, 63],
      [500, 36, 3, 5],
      [3, 64, 500],
      [2000, 8, 130],
    ]) {
      const ids = { shape, dtype: 'int32' as const, values: among(vocabulary!) };
      await checkOp(
        device,
        embeddingOp,
        { inputs: [{ shape: [vocabulary!, columns!] }, ids], attributes: {} },
        TOLERANCE,
      );
    }
  });

  it('bounds ids that lie outside of the table', async () => {
    const outside = [-1, 5, -2147483648, 2147483520, 2, 4];
    const ids = { shape: [6], dtype: 'int32' as const, values: (i: number) => outside[i]! };
    await checkOp(device, embeddingOp, { inputs: [{ shape: [5, 3] }, ids], attributes: {} }, TOLERANCE);
  });

  it('adds equal ids in the order of their tokens', async () => {
    // In float32 1e8 + 1 − 1e8 is 0 and 1e8 − 1e8 + 1 is 1: only the right order gives this sum.
    const gradients = scope(() => {
      const table = tensor(device, [0, 0, 0], [3, 1]);
      const ids = tensor(device, Int32Array.of(2, 0, 2, 0, 0, 2));
      const g = tensor(device, [1e8, 1e8, 1, -1e8, 1, -1e8], [6, 1]);
      const outputs = [g];
      return embeddingOp.backward!({
        device,
        inputs: [table, ids],
        outputs,
        gradients: [g],
        attributes: {},
        needs: [true, false],
      });
    });
    expect([...(await gradients[0]!.read())]).toEqual([1, 0, 0]);
    gradients[0]!.dispose();
  });

  it('converts to the dtype asked for', async () => {
    if (!device.info.float16) return expect(device.info.float16).toBe(false);
    const table = { shape: [9, 5], dtype: 'float16' as const, values: (i: number) => i / 8 };
    const ids = { shape: [2, 7], dtype: 'int32' as const, values: among(9) };
    // The table holds these values exactly; its gradient is rounded to float16, 2^-11.
    await checkOp(
      device,
      embeddingOp,
      { inputs: [table, ids], attributes: { dtype: 'float32' } },
      { ...TOLERANCE, gradient: 5e-4 },
    );
  });

  it('refuses float ids', () => {
    scope(() => {
      const table = tensor(device, [1, 2], [2, 1]);
      expect(() => embedding(table, table)).toThrow(/embedding: ids must be int32, got float32/);
    });
  });
});

describe('checkTokenIds', () => {
  it('names the first id outside of the vocabulary', () => {
    checkTokenIds(Int32Array.of(0, 5, 9), 10);
    for (const [ids, message] of [
      [[1, 10, -1], /ids\[1\] must be an integer from 0 to 9, got 10/],
      [[-1], /ids\[0\].*got -1/],
      [[0, 0.5], /ids\[1\].*got 0.5/],
      [[Number.NaN], /got NaN/],
    ] as const) {
      expect(() => checkTokenIds(ids, 10)).toThrow(message);
    }
    try {
      checkTokenIds([3], 3);
      expect.unreachable();
    } catch (error) {
      expect(ZebraError.is(error) && error.code).toBe('data');
    }
  });
});
