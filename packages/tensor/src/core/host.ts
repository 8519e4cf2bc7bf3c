import { elementCount, type Shape } from './shape.js';

/**
 * A tensor in host memory in float64: what reference implementations take and give. Integer tensors (token ids) are
 * held as float64 too, which is exact for them.
 */
export interface HostTensor {
  readonly shape: Shape;
  readonly data: Float64Array;
}

/** A host tensor from values, or of zeros. */
export function hostTensor(shape: Shape, values?: ArrayLike<number>): HostTensor {
  const data = new Float64Array(elementCount(shape));
  if (values) {
    if (values.length !== data.length) {
      throw new RangeError(`hostTensor: shape [${shape.join(', ')}] needs ${data.length} values, got ${values.length}`);
    }
    data.set(values as ArrayLike<number> & Iterable<number>);
  }
  return { shape: [...shape], data };
}
