import { type HostMatrix, type HostTensor, hostMatrix } from '../host-tensor.js';
import { InitError } from '../init-error.js';
import { diagonaliseBidiagonal } from './bidiagonal-qr.js';
import { bidiagonalise } from './bidiagonalise.js';
import { largestMagnitude, transpose } from './matrix.js';
import { tallQr } from './qr.js';

/** A thin singular value decomposition, A [m, n] = U·diag(s)·Vᵀ with k = min(m, n). */
export interface SingularValueDecomposition {
  /** The left singular vectors as columns, [m, k]. */
  readonly u: HostMatrix;
  /** The k singular values, largest first, none negative. */
  readonly s: Float64Array;
  /** The right singular vectors as rows, [k, n]. */
  readonly vT: HostMatrix;
}

/** The singular values and the left singular vectors alone. */
export type LeftSingularVectors = Omit<SingularValueDecomposition, 'vT'>;

/**
 * Thin SVD in float64: Householder QR down to a square, Householder bidiagonalisation, implicitly shifted QR.
 * U and V are orthogonal and U·diag(s)·Vᵀ is A to a few ε·‖A‖ whatever the rank. About 20·k³ floating-point operations
 * beyond the QR. Throws {@link InitError} when A is not a non-empty matrix or has an entry that is not finite.
 */
export function singularValueDecomposition(matrix: HostTensor): SingularValueDecomposition {
  const { leftTransposed, values, rightTransposed } = decompose(matrix, { left: true, right: true });
  return { u: transpose(leftTransposed!), s: values, vT: rightTransposed! };
}

/** As {@link singularValueDecomposition}, without V: about two thirds of the time. */
export function leftSingularVectors(matrix: HostTensor): LeftSingularVectors {
  const { leftTransposed, values } = decompose(matrix, { left: true, right: false });
  return { u: transpose(leftTransposed!), s: values };
}

/** As {@link singularValueDecomposition}, the singular values alone: about a third of the time. */
export function singularValues(matrix: HostTensor): Float64Array {
  return decompose(matrix, { left: false, right: false }).values;
}

interface Wanted {
  readonly left: boolean;
  readonly right: boolean;
}

interface Factors {
  /** Uᵀ [k, m], when wanted. */
  readonly leftTransposed: HostMatrix | undefined;
  readonly values: Float64Array;
  /** Vᵀ [k, n], when wanted. */
  readonly rightTransposed: HostMatrix | undefined;
}

function decompose(input: HostTensor, want: Wanted): Factors {
  const [rows, columns] = checkMatrix(input);
  const largest = largestMagnitude(input);
  if (!Number.isFinite(largest)) {
    const at = input.data.findIndex((value) => !Number.isFinite(value));
    throw new InitError({
      code: 'data',
      operation: 'singularValueDecomposition',
      argument: 'matrix',
      expected: 'finite entries',
      got: `${input.data[at]} at row ${Math.floor(at / columns)}, column ${at % columns}`,
      advice: 'Check the file or the training run that the weights come from.',
    });
  }
  // A power of two, so that scaling is exact; keeps squares far from overflow and underflow.
  const exponent = largest === 0 ? 0 : Math.max(-1000, Math.min(1000, Math.floor(Math.log2(largest))));
  const scale = 2 ** exponent;
  const scaled = hostMatrix(rows, columns);
  for (let i = 0; i < scaled.data.length; i++) scaled.data[i] = input.data[i] / scale;
  const factors = rows >= columns ? decomposeTall(scaled, want) : decomposeWide(scaled, want);
  for (let i = 0; i < factors.values.length; i++) factors.values[i] *= scale;
  return factors;
}

function checkMatrix(input: HostTensor): readonly [number, number] {
  const [rows, columns] = input.shape;
  if (input.shape.length === 2 && rows > 0 && columns > 0 && input.data.length === rows * columns) {
    return [rows, columns];
  }
  throw new InitError({
    code: 'shape',
    operation: 'singularValueDecomposition',
    argument: 'matrix',
    expected: 'two dimensions, neither of them 0, and as many values as they say',
    got: `shape [${input.shape.join(', ')}] with ${input.data.length} values`,
    advice: 'Reshape it into a matrix.',
  });
}

function decomposeWide(matrix: HostMatrix, want: Wanted): Factors {
  const flipped = decomposeTall(transpose(matrix), { left: want.right, right: want.left });
  return {
    leftTransposed: flipped.rightTransposed,
    values: flipped.values,
    rightTransposed: flipped.leftTransposed,
  };
}

function decomposeTall(matrix: HostMatrix, want: Wanted): Factors {
  const [rows, size] = matrix.shape;
  const qr = rows > size ? tallQr(matrix) : undefined;
  const bidiagonal = bidiagonalise(qr?.upper.data ?? matrix.data, size, want);
  if (!diagonaliseBidiagonal(bidiagonal)) {
    throw new InitError({
      code: 'data',
      operation: 'singularValueDecomposition',
      argument: 'matrix',
      expected: 'an iteration that converges',
      got: `none after ${60 * size} sweeps over a matrix of ${size} columns`,
      advice: 'Please report this matrix: no finite matrix is known to do this.',
    });
  }
  const { diagonal, leftTransposed, rightTransposed } = bidiagonal;
  const order = Array.from(diagonal.keys()).sort((a, b) => Math.abs(diagonal[b]) - Math.abs(diagonal[a]));
  const left = leftTransposed && gatherRows(leftTransposed, size, order, undefined);
  return {
    leftTransposed: left && qr ? qr.applyToTransposed(left) : left,
    values: Float64Array.from(order, (i) => Math.abs(diagonal[i])),
    // A negative diagonal entry gives its sign to the right vector.
    rightTransposed: rightTransposed && gatherRows(rightTransposed, size, order, diagonal),
  };
}

/** The rows of a square matrix in the order given; negated where `signs` is negative. */
function gatherRows(
  matrix: Float64Array,
  size: number,
  order: readonly number[],
  signs: Float64Array | undefined,
): HostMatrix {
  const result = hostMatrix(size, size);
  order.forEach((from, to) => {
    const row = matrix.subarray(from * size, (from + 1) * size);
    result.data.set(signs && signs[from] < 0 ? row.map((value) => -value) : row, to * size);
  });
  return result;
}
