import { ZebraError } from '../errors.js';

/** Element types of a tensor. `bfloat16` is storage only: cast it before computing. */
export type DType = 'float32' | 'float16' | 'bfloat16' | 'int32' | 'uint32';

/** Bytes an element. */
export const BYTES: Readonly<Record<DType, number>> = { float32: 4, float16: 2, bfloat16: 2, int32: 4, uint32: 4 };

/** Scalar type in WGSL; `bfloat16` has none and is bound as packed `u32`. */
export const WGSL_TYPE: Readonly<Record<DType, string>> = {
  float32: 'f32',
  float16: 'f16',
  bfloat16: 'u32',
  int32: 'i32',
  uint32: 'u32',
};

/** Bytes of an element as WGSL sees it. */
export function wgslBytes(dtype: DType): number {
  return WGSL_TYPE[dtype] === 'f16' ? 2 : 4;
}

/** Host arrays that a tensor can be made from. Plain numbers are rounded to the tensor's dtype. */
export type HostData =
  | Float32Array
  | Float64Array
  | Int32Array
  | Uint32Array
  | Uint16Array
  | Uint8Array
  | readonly number[];

/** Whether gradients can flow through a dtype. */
export function isFloat(dtype: DType): boolean {
  return dtype === 'float32' || dtype === 'float16' || dtype === 'bfloat16';
}

/** Whether kernels can compute in a dtype: `bfloat16` is stored only. */
export function isComputable(dtype: DType): boolean {
  return dtype === 'float32' || dtype === 'float16';
}

/** Throws unless `value` names a dtype. */
export function assertDType(operation: string, value: unknown): asserts value is DType {
  if (typeof value !== 'string' || !(value in BYTES)) {
    throw new ZebraError(
      'dtype',
      `${operation}: expected a dtype (${Object.keys(BYTES).join(', ')}), got ${String(value)}`,
    );
  }
}
