import { type Tensor, tensor } from '@zebra/tensor';
import { testDevice } from '@zebra/tensor/testing';
import { describe, expect, test } from 'vitest';
import { type HostMatrix, hostMatrix } from '../host-tensor.js';
import { frobeniusNorm, matmul, transpose } from '../linear-algebra/matrix.js';
import { singularValueDecomposition, singularValues } from '../linear-algebra/svd.js';
import { seededRandom } from '../seeded-random.testing.js';
import { leadingSubspace } from './leading-subspace.js';

const random = seededRandom(11);
/** Sums of four uniform numbers: near enough to a Gaussian for a flat spectrum. */
const normal = () => 2 * (random() + random() + random() + random() - 2);

function flat(rows: number, columns: number): HostMatrix {
  return hostMatrix(rows, columns, Float64Array.from({ length: rows * columns }, normal));
}

function withSpectrum(rows: number, columns: number, value: (i: number) => number): HostMatrix {
  const { u, vT } = singularValueDecomposition(flat(rows, columns));
  const count = u.shape[1];
  return matmul({ shape: u.shape, data: u.data.map((entry, i) => entry * value(i % count)) }, vT);
}

/** What float32 leaves of a matrix. */
function rounded({ shape, data }: HostMatrix): HostMatrix {
  return { shape, data: Float64Array.from(data, Math.fround) };
}

const SPECTRA: Record<string, (rows: number, columns: number) => HostMatrix> = {
  flat,
  'as 1/i': (rows, columns) => withSpectrum(rows, columns, (i) => 1 / (i + 1)),
  // Far below what survives squaring in float32: 2 digits a group.
  'over six decades': (rows, columns) => withSpectrum(rows, columns, (i) => 10 ** ((-6 * i) / Math.min(rows, columns))),
  'low rank and noise': (rows, columns) => withSpectrum(rows, columns, (i) => (i < 20 ? 1 : 1e-3)),
  // Values at the cut that no projector tells apart, in reach of larger ones: a basis of too few columns loses those.
  'a plateau at the cut': (rows, columns) => withSpectrum(rows, columns, (i) => (i < 12 ? 1 - i / 40 : 0.2)),
  'a dense cut': (rows, columns) => withSpectrum(rows, columns, (i) => (i < 18 ? 1 - i / 40 : 0.2 - 1e-7 * (i % 5))),
  'three outliers': (rows, columns) => withSpectrum(rows, columns, (i) => (i < 3 ? 1000 : 1)),
};

describe.each(['native', 'hardware'] as const)('leadingSubspace on %s kernels', async (variant) => {
  const device = await testDevice(variant);
  const upload = (matrix: HostMatrix): Tensor => tensor(device, Float32Array.from(matrix.data), matrix.shape);

  /** The error of the basis found and the best, both in float64, after its columns are found orthonormal. */
  async function errorsOf(matrix: HostMatrix, rank: number): Promise<{ reached: number; smallest: number }> {
    const before = device.statistics().liveBuffers;
    const w = upload(matrix);
    const exact = rounded(matrix);
    const found = await leadingSubspace(w, rank);
    expect(found.basis.shape).toEqual([matrix.shape[0], rank]);
    const basis = hostMatrix(matrix.shape[0], rank, Float64Array.from(await found.basis.read()));
    const gram = matmul(transpose(basis), basis);
    const off = gram.data.reduce((most, v, i) => Math.max(most, Math.abs(v - (i % (rank + 1) === 0 ? 1 : 0))), 0);
    // The last Newton–Schulz step leaves float32 rounding of a sum of a few hundred products.
    expect(off).toBeLessThan(2e-6);
    const kept = matmul(basis, matmul(transpose(basis), exact));
    const reached = frobeniusNorm({ shape: kept.shape, data: exact.data.map((value, i) => value - kept.data[i]) });
    const values = singularValues(exact);
    const smallest = Math.sqrt(values.subarray(rank).reduce((total, value) => total + value * value, 0));
    const norm = frobeniusNorm(exact);
    // What the function says of itself is measured in float32.
    expect(Math.abs(found.errors.reached - reached)).toBeLessThanOrEqual(1e-4 * reached + 2e-6 * norm);
    expect(Math.abs(found.errors.smallest - smallest)).toBeLessThanOrEqual(1e-4 * smallest + 2e-6 * norm);
    w.dispose();
    found.basis.dispose();
    expect(device.statistics().liveBuffers).toBe(before);
    return { reached, smallest };
  }

  // The kernels for hardware take their time on a CPU.
  const sizes = {
    native: [
      [130, 130, 64],
      [100, 200, 30],
      [200, 100, 30],
    ],
    hardware: [
      [64, 64, 32],
      [40, 70, 22],
      [70, 40, 22],
    ],
  }[variant] as [number, number, number][];
  test.each(Object.keys(SPECTRA).flatMap((name) => sizes.map((size) => [name, ...size] as const)))(
    '%s, %i × %i, rank %i',
    async (name, rows, columns, rank) => {
      const { reached, smallest } = await errorsOf(SPECTRA[name]!(rows, columns), rank);
      // Wanted is 1e-3. What is left to float32 is far less, but for the rounding of W itself (1e-6 of its norm), which
      // counts only where almost all of W is kept: here the error is at least 3e-4 of the norm.
      expect(reached / smallest - 1).toBeLessThan(1e-5);
    },
  );

  test.each([
    [1, 1, 1],
    [1, 5, 1],
    [5, 1, 1],
    [3, 5, 2],
    [63, 64, 1],
    [65, 131, 65],
    [131, 65, 65],
    [131, 65, 64],
  ])('awkward sizes: flat, %i × %i, rank %i', async (rows, columns, rank) => {
    const matrix = flat(rows, columns);
    const { reached, smallest } = await errorsOf(matrix, rank);
    // At full rank nothing but rounding is left, about 1e-7 of W in every entry of the product.
    expect(reached).toBeLessThan(1.00001 * smallest + 1e-6 * frobeniusNorm(matrix));
  });

  test('ranks above the numerical rank: the basis is completed and W is met', async () => {
    const low = withSpectrum(90, 80, (i) => (i < 10 ? 2 : 0));
    const { reached } = await errorsOf(low, 25);
    expect(reached).toBeLessThan(2e-6 * frobeniusNorm(low));
    const zero = hostMatrix(20, 30);
    expect((await errorsOf(zero, 7)).reached).toBe(0);
  });

  test('an energy chooses the rank, known singular values are taken', async () => {
    const matrix = SPECTRA['as 1/i']!(60, 80);
    const w = upload(matrix);
    const exact = singularValues(matrix);
    const first = await leadingSubspace(w, { energy: 0.95 });
    // Σ 1/j² up to 12 is 95.6% of that up to 60 and up to 10 below 95%: 10 or 11, rounded up to 16.
    expect(first.rank).toBe(16);
    expect(first.energy).toBeCloseTo(
      exact.subarray(0, 16).reduce((total, s) => total + s * s, 0) / exact.reduce((total, s) => total + s * s, 0),
      6,
    );
    const again = await leadingSubspace(w, 16, { singularValues: first.singularValues });
    expect([...(await again.basis.read())]).toEqual([...(await first.basis.read())]);
    for (const t of [w, first.basis, again.basis]) t.dispose();
  });
});
