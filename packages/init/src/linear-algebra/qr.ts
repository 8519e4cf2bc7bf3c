import { type HostMatrix, hostMatrix } from '../host-tensor.js';
import { makeReflector, reflectColumns, reflectRows } from './householder.js';

/** A QR factorisation of a tall matrix, with Q kept as its reflectors. */
export interface TallQr {
  /** R, upper triangular [n, n]. */
  readonly upper: HostMatrix;
  /** Given Xᵀ [k, n] of a matrix X [n, k], returns (Q·X)ᵀ [k, m]. */
  applyToTransposed(transposed: HostMatrix): HostMatrix;
}

/** Householder QR of a matrix [m, n] with m ≥ n; the input is left as it is. */
export function tallQr(matrix: HostMatrix): TallQr {
  const [rows, columns] = matrix.shape;
  const work = matrix.data.slice();
  // Reflector k fills row k from column k on, so that applying it reads contiguously.
  const reflectors = new Float64Array(columns * rows);
  const taus = new Float64Array(columns);
  const scratch = new Float64Array(columns);
  const upper = hostMatrix(columns, columns);
  for (let k = 0; k < columns; k++) {
    const offset = k * rows;
    for (let i = k; i < rows; i++) reflectors[offset + i] = work[i * columns + k];
    const [tau, beta] = makeReflector(reflectors, offset + k, offset + rows);
    taus[k] = tau;
    upper.data[k * columns + k] = beta;
    reflectRows(work, columns, k + 1, columns, reflectors, offset, k, rows, tau, scratch);
    for (let j = k + 1; j < columns; j++) {
      upper.data[k * columns + j] = work[k * columns + j];
    }
  }
  return {
    upper,
    applyToTransposed(transposed) {
      const count = transposed.shape[0];
      const result = hostMatrix(count, rows);
      for (let i = 0; i < count; i++) {
        for (let j = 0; j < columns; j++) {
          result.data[i * rows + j] = transposed.data[i * columns + j];
        }
      }
      for (let k = columns - 1; k >= 0; k--) {
        const tau = taus[k];
        reflectColumns(result.data, rows, 0, count, reflectors, k * rows, k, rows, tau);
      }
      return result;
    },
  };
}
