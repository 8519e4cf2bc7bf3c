import { expect } from 'vitest';
import { type HostMatrix, type HostTensor, hostMatrix, toHostMatrix } from './host-tensor.js';
import { frobeniusNorm, matmul } from './linear-algebra/matrix.js';

/** ‖actual − expected‖ / ‖expected‖, after the shapes are found equal. */
export function relativeError(actual: HostTensor, expected: HostTensor): number {
  expect(actual.shape).toEqual(expected.shape);
  const data = Float64Array.from(actual.data, (value, i) => value - expected.data[i]);
  return frobeniusNorm({ shape: actual.shape, data }) / frobeniusNorm(expected);
}

/** Rows [start, end) of a matrix, in float64. */
export function rows(tensor: HostTensor, start: number, end: number): HostMatrix {
  const columns = tensor.shape[1];
  return hostMatrix(end - start, columns, Float64Array.from(tensor.data.subarray(start * columns, end * columns)));
}

/** The up-projection times the latent rows of the down-projection. */
export function product(weights: Map<string, HostTensor>, up: string, down: string): HostMatrix {
  const upMatrix = toHostMatrix(weights.get(up)!);
  return matmul(upMatrix, rows(weights.get(down)!, 0, upMatrix.shape[1]));
}
