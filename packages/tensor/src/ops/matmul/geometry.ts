import { elementCount, type Shape, sameShape, shapeError } from '../../core/shape.js';

/** Sizes of a (batched) matrix product. */
export interface MatmulGeometry {
  /** Rows of the output, columns of the output, length of the sums. */
  readonly m: number;
  readonly n: number;
  readonly k: number;
  /** Matrices in the output, and in each operand: 1 where one matrix serves the whole batch. */
  readonly batch: number;
  readonly batchA: number;
  readonly batchB: number;
  /** Shape of the output. */
  readonly shape: Shape;
}

/** Works out the sizes of a · b; throws a shape error for operands that do not fit. */
export function matmulGeometry(
  operation: string,
  a: Shape,
  b: Shape,
  transposeA: boolean,
  transposeB: boolean,
): MatmulGeometry {
  if (a.length < 2) shapeError(operation, 'a', transposeA ? '[..., K, M]' : '[..., M, K]', a);
  if (b.length < 2) shapeError(operation, 'b', transposeB ? '[..., N, K]' : '[..., K, N]', b);
  const [rowsA, columnsA] = a.slice(-2) as [number, number];
  const [rowsB, columnsB] = b.slice(-2) as [number, number];
  const [m, k] = transposeA ? [columnsA, rowsA] : [rowsA, columnsA];
  const [n, kB] = transposeB ? [rowsB, columnsB] : [columnsB, rowsB];
  if (k !== kB) shapeError(operation, 'b', transposeB ? `[..., N, ${k}]` : `[..., ${k}, N]`, b);
  const leadA = a.slice(0, -2);
  const leadB = b.slice(0, -2);
  const batchA = elementCount(leadA);
  const batchB = elementCount(leadB);
  if (!sameShape(leadA, leadB) && batchA !== 1 && batchB !== 1) {
    shapeError(operation, 'b', `two-dimensional or batched as [${leadA.join(', ')}, ...]`, b);
  }
  const lead = batchA === batchB ? (leadA.length >= leadB.length ? leadA : leadB) : batchA > 1 ? leadA : leadB;
  return { m, n, k, batch: Math.max(batchA, batchB), batchA, batchB, shape: [...lead, m, n] };
}
