import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { type HostMatrix, hostMatrix } from '../host-tensor.js';
import { InitError } from '../init-error.js';
import { seededRandom } from '../seeded-random.testing.js';
import { frobeniusNorm, matmul, transpose } from './matrix.js';
import { leftSingularVectors, singularValueDecomposition, singularValues } from './svd.js';

// Backward errors of the algorithm grow like a small multiple of ε·√n; 1e-14 relative to ‖A‖ holds up to 63, and
// 2e-14 leaves room at 300.
const tolerance = 1e-14;

function randomMatrix(rows: number, columns: number, seed: number): HostMatrix {
  const random = seededRandom(seed);
  return hostMatrix(
    rows,
    columns,
    Float64Array.from({ length: rows * columns }, () => 2 * random() - 1),
  );
}

/** U·diag(s)·Vᵀ with random orthogonal U and V: a matrix whose singular values are known. */
function withSpectrum(rows: number, columns: number, spectrum: readonly number[], seed: number): HostMatrix {
  const left = singularValueDecomposition(randomMatrix(rows, spectrum.length, seed)).u;
  const right = singularValueDecomposition(randomMatrix(spectrum.length, columns, seed + 1)).vT;
  return matmul(scaleColumns(left, spectrum), right);
}

function scaleColumns(matrix: HostMatrix, factors: ArrayLike<number>): HostMatrix {
  const columns = matrix.shape[1];
  return { shape: matrix.shape, data: matrix.data.map((value, i) => value * factors[i % columns]) };
}

function difference(a: HostMatrix, b: HostMatrix): number {
  return frobeniusNorm({ shape: a.shape, data: a.data.map((value, i) => value - b.data[i]) });
}

function departureFromOrthogonality(columns: HostMatrix): number {
  const gram = matmul(transpose(columns), columns);
  const size = gram.shape[0];
  return frobeniusNorm({ shape: gram.shape, data: gram.data.map((v, i) => v - (i % (size + 1) === 0 ? 1 : 0)) });
}

function expectDecomposes(matrix: HostMatrix, relative = tolerance): Float64Array {
  const { u, s, vT } = singularValueDecomposition(matrix);
  const count = Math.min(...matrix.shape);
  expect(u.shape).toEqual([matrix.shape[0], count]);
  expect(vT.shape).toEqual([count, matrix.shape[1]]);
  expect(s).toHaveLength(count);
  const norm = frobeniusNorm(matrix);
  expect(difference(matmul(scaleColumns(u, s), vT), matrix)).toBeLessThanOrEqual(relative * norm);
  const room = relative * Math.sqrt(count) * 2;
  expect(departureFromOrthogonality(u)).toBeLessThanOrEqual(room);
  expect(departureFromOrthogonality(transpose(vT))).toBeLessThanOrEqual(room);
  for (let i = 0; i < count; i++) {
    expect(s[i]).toBeGreaterThanOrEqual(0);
    if (i > 0) expect(s[i]).toBeLessThanOrEqual(s[i - 1]);
  }
  return s;
}

function expectSpectrum(values: Float64Array, expected: readonly number[], relative = tolerance): void {
  const room = relative * Math.max(...expected, 0) * Math.sqrt(expected.length);
  for (let i = 0; i < values.length; i++) {
    expect(Math.abs(values[i] - (expected[i] ?? 0))).toBeLessThanOrEqual(room);
  }
}

describe('singularValueDecomposition', () => {
  test('random shapes', () => {
    const size = fc.constantFrom(1, 2, 3, 7, 8, 31, 63);
    fc.assert(
      fc.property(size, size, fc.nat(), (rows, columns, seed) => {
        expectDecomposes(randomMatrix(rows, columns, seed));
      }),
      { numRuns: 60, seed: 1 },
    );
  });

  test('small integers, which make exact zeros and repeats', () => {
    const matrix = fc
      .tuple(fc.integer({ min: 1, max: 6 }), fc.integer({ min: 1, max: 6 }))
      .chain(([rows, columns]) =>
        fc
          .array(fc.integer({ min: -2, max: 2 }), { minLength: rows * columns, maxLength: rows * columns })
          .map((data) => hostMatrix(rows, columns, Float64Array.from(data))),
      );
    fc.assert(
      fc.property(matrix, (value) => {
        expectDecomposes(value);
      }),
      { numRuns: 500, seed: 2 },
    );
  });

  test.each([
    [63, 63, Array.from({ length: 63 }, (_, i) => 63 - i)],
    [96, 40, Array.from({ length: 40 }, (_, i) => 2 ** -i)],
    [40, 96, Array.from({ length: 40 }, (_, i) => 1 - i * 1e-13)],
    [48, 48, Array.from({ length: 48 }, () => 3)],
    [50, 30, Array.from({ length: 30 }, (_, i) => (i < 10 ? 5 : i < 20 ? 1 : 1e-9))],
    [30, 50, Array.from({ length: 7 }, (_, i) => 7 - i)],
  ])('known spectrum, %i × %i', (rows, columns, spectrum) => {
    expectSpectrum(expectDecomposes(withSpectrum(rows, columns, spectrum, 5)), spectrum);
  });

  test('diagonal, identity, rank one, zero', () => {
    expectSpectrum(expectDecomposes(hostMatrix(2, 2, Float64Array.of(0, -3, 2, 0))), [3, 2]);
    const identity = hostMatrix(20, 20);
    for (let i = 0; i < 20; i++) identity.data[i * 21] = 1;
    expect([...expectDecomposes(identity)]).toEqual(Array.from({ length: 20 }, () => 1));
    const ones = hostMatrix(24, 6, new Float64Array(144).fill(1));
    expectSpectrum(expectDecomposes(ones), [12]);
    expect([...expectDecomposes(hostMatrix(5, 9))]).toEqual([0, 0, 0, 0, 0]);
  });

  test('bidiagonal with zeros on the diagonal, at the end and in the middle', () => {
    const matrix = hostMatrix(6, 6);
    for (let i = 0; i < 6; i++) {
      matrix.data[i * 7] = i === 2 || i === 5 ? 0 : i + 1;
      if (i < 5) matrix.data[i * 7 + 1] = 1;
    }
    expectDecomposes(matrix);
  });

  test('a wide range of scales', () => {
    for (const factor of [1e-300, 1e300]) {
      const matrix = randomMatrix(9, 12, 3);
      const scaled: HostMatrix = { shape: matrix.shape, data: matrix.data.map((v) => v * factor) };
      expectDecomposes(scaled);
    }
  });

  test('300 × 260, and the variants that leave factors out agree', () => {
    const matrix = randomMatrix(300, 260, 9);
    const values = expectDecomposes(matrix, 2e-14);
    const left = leftSingularVectors(matrix);
    expectSpectrum(left.s, [...values]);
    expectSpectrum(singularValues(matrix), [...values]);
    expect(departureFromOrthogonality(left.u)).toBeLessThan(1e-12);
  });

  test('refuses what is no finite matrix', () => {
    const bad = hostMatrix(2, 3, Float64Array.of(1, 2, 3, 4, Number.NaN, 6));
    expect(() => singularValueDecomposition(bad)).toThrow(InitError);
    expect(() => singularValueDecomposition(bad)).toThrow(/NaN at row 1, column 1/);
    const infinite = hostMatrix(1, 2, Float64Array.of(1, Number.POSITIVE_INFINITY));
    expect(() => singularValues(infinite)).toThrow(/Infinity at row 0, column 1/);
    expect(() => singularValues(hostMatrix(0, 3))).toThrow(/shape \[0, 3\]/);
    expect(() => singularValues({ shape: [4], data: new Float64Array(4) })).toThrow(/two dimensions/);
    expect(() => matmul(hostMatrix(2, 3), hostMatrix(2, 3))).toThrow(/expected 3 rows/);
  });
});
