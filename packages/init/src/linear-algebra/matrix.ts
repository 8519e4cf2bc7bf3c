import { type HostMatrix, type HostTensor, hostMatrix } from '../host-tensor.js';
import { InitError } from '../init-error.js';

/** `left` [m, k] times `right` [k, n], in float64. Throws {@link InitError} when the inner sizes differ. */
export function matmul(left: HostMatrix, right: HostMatrix): HostMatrix {
  const [rows, inner] = left.shape;
  const [rightRows, columns] = right.shape;
  if (inner !== rightRows) {
    throw new InitError({
      code: 'shape',
      operation: 'matmul',
      argument: 'right',
      expected: `${inner} rows, as many as left has columns`,
      got: `shape [${right.shape.join(', ')}] beside left [${left.shape.join(', ')}]`,
      advice: 'Transpose one of the two, or check which matrix was meant.',
    });
  }
  const product = hostMatrix(rows, columns);
  const a = left.data;
  const b = right.data;
  const c = product.data;
  // Four rows of `right` a pass: every store into the product is used four times.
  const unrolled = inner - (inner % 4);
  for (let i = 0; i < rows; i++) {
    const at = i * inner;
    const out = i * columns;
    for (let k = 0; k < unrolled; k += 4) {
      const a0 = a[at + k];
      const a1 = a[at + k + 1];
      const a2 = a[at + k + 2];
      const a3 = a[at + k + 3];
      const b0 = k * columns;
      const b1 = b0 + columns;
      const b2 = b1 + columns;
      const b3 = b2 + columns;
      for (let j = 0; j < columns; j++) {
        c[out + j] = c[out + j] + a0 * b[b0 + j] + a1 * b[b1 + j] + a2 * b[b2 + j] + a3 * b[b3 + j];
      }
    }
    for (let k = unrolled; k < inner; k++) {
      const a0 = a[at + k];
      const b0 = k * columns;
      for (let j = 0; j < columns; j++) {
        c[out + j] = c[out + j] + a0 * b[b0 + j];
      }
    }
  }
  return product;
}

/** The transpose [n, m] of a matrix [m, n], a new copy. */
export function transpose(matrix: HostMatrix): HostMatrix {
  const [rows, columns] = matrix.shape;
  const result = hostMatrix(columns, rows);
  const from = matrix.data;
  const to = result.data;
  const tile = 32;
  for (let i0 = 0; i0 < rows; i0 += tile) {
    const i1 = Math.min(i0 + tile, rows);
    for (let j0 = 0; j0 < columns; j0 += tile) {
      const j1 = Math.min(j0 + tile, columns);
      for (let i = i0; i < i1; i++) {
        for (let j = j0; j < j1; j++) to[j * rows + i] = from[i * columns + j];
      }
    }
  }
  return result;
}

/** The square root of the sum of squares, without overflow or underflow on the way. */
export function frobeniusNorm(tensor: HostTensor): number {
  const largest = largestMagnitude(tensor);
  if (largest === 0 || !Number.isFinite(largest)) return largest;
  let sum = 0;
  for (const value of tensor.data) sum += (value / largest) ** 2;
  return largest * Math.sqrt(sum);
}

/** The largest absolute entry; NaN when there is a NaN. */
export function largestMagnitude(tensor: HostTensor): number {
  let largest = 0;
  for (const value of tensor.data) {
    const magnitude = Math.abs(value);
    // Written so that a NaN wins and stays.
    if (!(magnitude <= largest)) largest = magnitude;
    if (Number.isNaN(largest)) return Number.NaN;
  }
  return largest;
}
