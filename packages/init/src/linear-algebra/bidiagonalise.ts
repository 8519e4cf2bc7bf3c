import { makeReflector, reflectColumns, reflectRows } from './householder.js';

/** A = U·B·Vᵀ for a square A, with B upper bidiagonal. */
export interface Bidiagonal {
  /** The n diagonal entries of B. */
  readonly diagonal: Float64Array;
  /** The n − 1 entries above it, and a 0. */
  readonly superdiagonal: Float64Array;
  /** Uᵀ, row-major n × n, or undefined when not asked for. */
  readonly leftTransposed: Float64Array | undefined;
  /** Vᵀ, row-major n × n, or undefined when not asked for. */
  readonly rightTransposed: Float64Array | undefined;
}

/**
 * Householder bidiagonalisation (Golub and Van Loan, algorithm 5.4.2) of a square row-major matrix, which is
 * overwritten. U and V are kept transposed, so that the rotations of the QR iteration act on contiguous rows.
 */
export function bidiagonalise(
  matrix: Float64Array,
  size: number,
  want: { readonly left: boolean; readonly right: boolean },
): Bidiagonal {
  const diagonal = new Float64Array(size);
  const superdiagonal = new Float64Array(size);
  const leftReflectors = new Float64Array(size * size);
  const rightReflectors = new Float64Array(size * size);
  const leftTaus = new Float64Array(size);
  const rightTaus = new Float64Array(size);
  const scratch = new Float64Array(size);
  for (let k = 0; k < size; k++) {
    const row = k * size;
    for (let i = k; i < size; i++) leftReflectors[row + i] = matrix[i * size + k];
    const [leftTau, leftBeta] = makeReflector(leftReflectors, row + k, row + size);
    leftTaus[k] = leftTau;
    diagonal[k] = leftBeta;
    reflectRows(matrix, size, k + 1, size, leftReflectors, row, k, size, leftTau, scratch);
    if (k + 1 >= size) break;
    for (let j = k + 1; j < size; j++) rightReflectors[row + j] = matrix[row + j];
    const [rightTau, rightBeta] = makeReflector(rightReflectors, row + k + 1, row + size);
    rightTaus[k] = rightTau;
    superdiagonal[k] = rightBeta;
    reflectColumns(matrix, size, k + 1, size, rightReflectors, row, k + 1, size, rightTau);
  }
  return {
    diagonal,
    superdiagonal,
    leftTransposed: want.left ? accumulate(leftReflectors, leftTaus, size, 0) : undefined,
    rightTransposed: want.right ? accumulate(rightReflectors, rightTaus, size, 1) : undefined,
  };
}

/** (H₀·H₁·…)ᵀ = …·H₁·H₀, where reflector k starts at column k + shift. */
function accumulate(reflectors: Float64Array, taus: Float64Array, size: number, shift: number): Float64Array {
  const result = new Float64Array(size * size);
  for (let i = 0; i < size; i++) result[i * size + i] = 1;
  // From the last reflector back, only the trailing block has left the identity.
  for (let k = size - 1 - shift; k >= 0; k--) {
    const tau = taus[k];
    const start = k + shift;
    reflectColumns(result, size, start, size, reflectors, k * size, start, size, tau);
  }
  return result;
}
