import { tensor } from '@zebra/tensor';
import { normalValues, testDevice, uniformSource } from '@zebra/tensor/testing';
import { describe, expect, test } from 'vitest';
import { InitError } from '../init-error.js';
import { singularValues } from '../linear-algebra/svd.js';
import { deviceSingularValues } from './bidiagonal.js';

describe.each(['native', 'hardware'] as const)('deviceSingularValues on %s kernels', async (variant) => {
  const device = await testDevice(variant);
  // More columns than one workgroup of the update has, and more steps than one recording; SwiftShader, which takes a
  // hundred times as long for kernels with barriers, gets what it can do in seconds.
  const largest = /swiftshader/i.test(device.info.description) ? [70, 90] : [520, 530];

  test.each([[1, 1], [1, 7], [3, 2], [3, 5], [63, 63], [64, 61], [130, 70], [70, 130], largest as [number, number]])(
    '%i × %i',
    async (rows, columns) => {
      const before = device.statistics().liveBuffers;
      const { data } = normalValues([rows, columns], uniformSource(2));
      // The scale must not matter.
      const weights = Float32Array.from(data, (value) => value * 1e-3);
      const w = tensor(device, weights, [rows, columns]);
      const found = await deviceSingularValues(w);
      const expected = singularValues({ shape: [rows, columns], data: weights });
      expect(found).toHaveLength(expected.length);
      // Backward error of float32 Householder steps: a small multiple of 6e-8·‖W‖, whatever the value's own size.
      found.forEach((value, i) => {
        expect(Math.abs(value - expected[i]!)).toBeLessThan(1e-6 * expected[0]!);
      });
      w.dispose();
      expect(device.statistics().liveBuffers).toBe(before);
    },
  );

  test('rank-deficient, zero, huge and tiny matrices', async () => {
    const valuesOf = async (rows: number, columns: number, value: (i: number, j: number) => number) => {
      const data = Float32Array.from({ length: rows * columns }, (_, at) =>
        value(Math.floor(at / columns), at % columns),
      );
      const w = tensor(device, data, [rows, columns]);
      const found = await deviceSingularValues(w);
      w.dispose();
      return found;
    };
    expect([...(await valuesOf(5, 3, () => 0))]).toEqual([0, 0, 0]);
    const ones = await valuesOf(40, 30, () => 1);
    expect(ones[0]).toBeCloseTo(Math.sqrt(1200), 4);
    expect(Math.max(...ones.subarray(1))).toBeLessThan(1e-4);
    const diagonal = await valuesOf(9, 9, (i, j) => (i === j ? i + 1 : 0));
    expect([...diagonal].map((value) => Math.round(value * 1e5) / 1e5)).toEqual([9, 8, 7, 6, 5, 4, 3, 2, 1]);
    for (const size of [1e-15, 1e15]) {
      const scaled = await valuesOf(9, 9, (i, j) => (i === j ? (i + 1) * size : 0));
      expect(scaled[0]! / size).toBeCloseTo(9, 4);
      expect(scaled[8]! / size).toBeCloseTo(1, 4);
    }
  });

  test('refuses what is not finite', async () => {
    const w = tensor(device, new Float32Array([1, Number.NaN, 2, 3]), [2, 2]);
    await expect(deviceSingularValues(w)).rejects.toThrow(InitError);
    w.dispose();
  });
});
