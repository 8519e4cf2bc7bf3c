import { dtypeError, type TensorSpec } from '../../core/shape.js';

/** Throws unless a tensor is of a dtype that kernels compute in: float32 or float16 (bfloat16 is storage only). */
export function assertComputable(operation: string, argument: string, tensor: TensorSpec): void {
  if (tensor.dtype !== 'float32' && tensor.dtype !== 'float16') {
    dtypeError(operation, argument, 'float32 or float16', tensor.dtype);
  }
}

/** Throws unless a tensor holds int32. */
export function assertInt32(operation: string, argument: string, tensor: TensorSpec): void {
  if (tensor.dtype !== 'int32') dtypeError(operation, argument, 'int32', tensor.dtype);
}
