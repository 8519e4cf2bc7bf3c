import type { Device } from '../device/device.js';
import { defineKernel, linearMain } from '../device/kernel.js';
import { ZebraError } from '../errors.js';
import { allocateTensor } from './define-op.js';
import { assertDType, type DType, type HostData } from './dtype.js';
import { encodeBytes } from './encoding.js';
import { assertShape, elementCount, type Shape, showShape } from './shape.js';
import type { Tensor } from './tensor.js';

/** Options of the functions that make tensors. */
export interface CreateOptions {
  /** Element type. Default: `int32` for Int32Array, `uint32` for Uint32Array, else `float32`. */
  readonly dtype?: DType;
}

/**
 * A tensor from host values.
 *
 * @param shape sizes, outermost first; `[data.length]` by default
 * @throws ZebraError `shape` when the number of values differs; `program` while a program is captured
 */
export function tensor(
  device: Device,
  data: HostData,
  shape: Shape = [data.length],
  options: CreateOptions = {},
): Tensor {
  const dtype = options.dtype ?? dtypeOf(data);
  assertDType('tensor', dtype);
  assertShape('tensor', shape);
  if (elementCount(shape) !== data.length) {
    throw new ZebraError(
      'shape',
      `tensor: shape ${showShape(shape)} needs ${elementCount(shape)} values, got ${data.length}`,
    );
  }
  const made = allocateTensor(device, { shape, dtype });
  device.write(made.range(), encodeBytes(data, dtype));
  return made;
}

function dtypeOf(data: HostData): DType {
  if (data instanceof Int32Array) return 'int32';
  if (data instanceof Uint32Array) return 'uint32';
  return 'float32';
}

/** A tensor of zeros. */
export function zeros(device: Device, shape: Shape, options: CreateOptions = {}): Tensor {
  assertShape('zeros', shape);
  const made = allocateTensor(device, { shape, dtype: options.dtype ?? 'float32' });
  device.clear({ storage: made.storage, offset: 0, size: made.storage.byteLength });
  return made;
}

/** A tensor with every element set to `value`. */
export function fill(device: Device, shape: Shape, value: number, options: CreateOptions = {}): Tensor {
  assertShape('fill', shape);
  const made = allocateTensor(device, { shape, dtype: options.dtype ?? 'float32' });
  device.dispatch(fillKernel, {
    bindings: { x: made.range() },
    params: { count: made.size, value },
    groups: Math.ceil(made.size / device.workgroupOf(fillKernel)),
  });
  return made;
}

const fillKernel = defineKernel({
  name: 'fill',
  bindings: { x: 'write' },
  params: { count: 'u32', value: 'f32' },
  itemwise: () => ['x'],
  source: () => linearMain('p.count', '  x[i] = x_t(p.value);'),
});

/** A tensor of the given shape and dtype whose contents are undefined (NaN on a poisoned device). */
export function empty(device: Device, shape: Shape, options: CreateOptions = {}): Tensor {
  assertShape('empty', shape);
  return allocateTensor(device, { shape, dtype: options.dtype ?? 'float32' });
}
