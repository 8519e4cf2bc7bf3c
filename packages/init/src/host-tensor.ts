/** A dense row-major array in host memory. Float32 is what checkpoints hold; Float64 is what this package computes in. */
export interface HostTensor {
  readonly shape: readonly number[];
  readonly data: Float32Array | Float64Array;
}

/** A float64 matrix, row-major: entry (i, j) is `data[i * shape[1] + j]`. */
export interface HostMatrix extends HostTensor {
  readonly shape: readonly [rows: number, columns: number];
  readonly data: Float64Array;
}

/** Wraps `data` (not copied; zeros when left out) as a `rows` × `columns` matrix. */
export function hostMatrix(
  rows: number,
  columns: number,
  data: Float64Array = new Float64Array(rows * columns),
): HostMatrix {
  return { shape: [rows, columns], data };
}

/** A float64 copy of a two-dimensional tensor. The caller has checked that it has two dimensions. */
export function toHostMatrix(tensor: HostTensor): HostMatrix {
  const [rows, columns] = tensor.shape as readonly [number, number];
  return hostMatrix(rows, columns, Float64Array.from(tensor.data));
}

/** A float32 copy, rounded to nearest: what a checkpoint stores. */
export function toFloat32(tensor: HostTensor): HostTensor {
  return { shape: [...tensor.shape], data: Float32Array.from(tensor.data) };
}
