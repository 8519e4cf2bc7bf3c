import { matmul, type Tensor, tensor } from '@zebra/tensor';
import { testDevice } from '@zebra/tensor/testing';
import { describe, expect, test } from 'vitest';
import { hostMatrix } from '../host-tensor.js';
import { singularValueDecomposition } from '../linear-algebra/svd.js';
import { relativeError } from '../matrix-comparison.testing.js';
import { seededRandom } from '../seeded-random.testing.js';
import { polarFactor, signCubics } from './polar.js';

describe('signCubics', () => {
  test.each([1e-6, 1e-3, 0.02, 0.5, 0.98])('takes [%f, 1] to 1', (smallest) => {
    const steps = signCubics(smallest);
    for (let i = 0; i <= 1000; i++) {
      let x = smallest ** (i / 1000);
      for (const { linear, cubic } of steps) {
        x = linear * x + cubic * x ** 3;
        // Never negative, and hardly above 1: the composition stays where the next step wants it.
        expect(x).toBeGreaterThan(0);
        expect(x).toBeLessThan(1 + 1e-9);
      }
      // Two Newton–Schulz steps from 1 − 1e-3: 1.5e-6, then 3.4e-12.
      expect(Math.abs(x - 1)).toBeLessThan(1e-11);
    }
  });

  test('is worth a factor of about 2.5 a step', () => {
    // 1e-6 · 2.5ⁿ = 0.13 for n = 12.9; then four to reach 0.999 and the last two.
    expect(signCubics(1e-6).length).toBeLessThanOrEqual(20);
  });

  test('a part in a thousand above 1 does no harm', () => {
    let x = 1.001;
    for (const { linear, cubic } of signCubics(1e-6)) x = linear * x + cubic * x ** 3;
    expect(x).toBeCloseTo(1, 10);
  });
});

describe.each(['native', 'hardware'] as const)('polarFactor on %s kernels', async (variant) => {
  const device = await testDevice(variant);
  const random = seededRandom(5);
  const factors = (rows: number, columns: number) =>
    singularValueDecomposition(
      hostMatrix(
        rows,
        columns,
        Float64Array.from({ length: rows * columns }, () => 2 * random() - 1),
      ),
    );
  const product = ({ u, vT }: ReturnType<typeof factors>, values: (i: number) => number) => {
    const [rows, count] = u.shape;
    const columns = vT.shape[1];
    const out = hostMatrix(rows, columns);
    for (let i = 0; i < rows; i++)
      for (let k = 0; k < count; k++)
        for (let j = 0; j < columns; j++)
          out.data[i * columns + j] += u.data[i * count + k] * values(k) * vT.data[k * columns + j];
    return out;
  };
  const upload = ({ shape, data }: { shape: readonly number[]; data: Float64Array }): Tensor =>
    tensor(device, Float32Array.from(data), shape);

  test.each([
    [1, 1],
    [3, 1],
    [63, 63],
    [130, 40],
  ])('%i × %i', async (rows, columns) => {
    const before = device.statistics().liveBuffers;
    const svd = factors(rows, columns);
    const x = upload(product(svd, (k) => 10 ** (-3 * (k / columns))));
    const found = polarFactor(x, 5e-4);
    const host = { shape: found.shape, data: (await found.read()) as Float32Array };
    // Rounding is amplified by 1/smallest in the weakest directions: 6e-8 · 1e3, a few of those.
    expect(
      relativeError(
        host,
        product(svd, () => 1),
      ),
    ).toBeLessThan(1e-4);
    const gram = matmul(found, found, { transposeA: true });
    const identity = Float64Array.from(await gram.read());
    const off = identity.reduce((most, v, i) => Math.max(most, Math.abs(v - (i % (columns + 1) === 0 ? 1 : 0))), 0);
    // Orthonormal all the same: sums of 130 float32 products.
    expect(off).toBeLessThan(2e-6);
    for (const t of [x, found, gram]) t.dispose();
    expect(device.statistics().liveBuffers).toBe(before);
  });

  test('of a symmetric matrix the sign function', async () => {
    const { u } = factors(48, 48);
    const symmetric = product({ u, s: new Float64Array(), vT: transposed(u) }, (k) => (k % 3 === 0 ? 0.9 : -0.01));
    const x = upload(symmetric);
    const found = polarFactor(x, 0.005);
    const sign = product({ u, s: new Float64Array(), vT: transposed(u) }, (k) => (k % 3 === 0 ? 1 : -1));
    // 6e-8 / 0.01, a few of those.
    expect(relativeError({ shape: found.shape, data: (await found.read()) as Float32Array }, sign)).toBeLessThan(3e-5);
  });
});

function transposed(u: ReturnType<typeof hostMatrix>): ReturnType<typeof hostMatrix> {
  const [rows, columns] = u.shape;
  return hostMatrix(
    columns,
    rows,
    u.data.map((_, i) => u.data[(i % rows) * columns + Math.floor(i / rows)]),
  );
}
