import type { Device } from '@zebra/tensor';
import { type DType, elementCount, Random, type Shape, type Tensor, tensor } from '@zebra/tensor';

/** A prime, so that rows of a tensor do not repeat each other. */
const BLOCK = 65_521;

/**
 * A tensor of normal numbers. They repeat after 65,521: drawing a GPU's gigabyte would take longer than all benchmarks,
 * and constants would flatter GPUs, which draw less power (and so clock higher) on them.
 */
export function randomTensor(
  device: Device,
  shape: Shape,
  { dtype = 'float32', deviation = 1, seed = 1 }: { dtype?: DType; deviation?: number; seed?: number } = {},
): Tensor {
  const values = new Float32Array(elementCount(shape));
  const random = new Random(seed);
  let filled = Math.min(BLOCK, values.length);
  for (let i = 0; i < filled; i++) values[i] = deviation * random.normal();
  for (; filled < values.length; filled *= 2) values.copyWithin(filled, 0, Math.min(filled, values.length - filled));
  return tensor(device, values, shape, { dtype });
}

/** Random token ids, int32. */
export function randomIds(shape: Shape, vocabulary: number, seed = 1): Int32Array {
  const random = new Random(seed);
  return Int32Array.from({ length: elementCount(shape) }, () => random.integer(vocabulary));
}

/** Bytes of so many elements. */
export function bytesOf(dtype: 'float32' | 'float16', ...shapes: readonly Shape[]): number {
  return (dtype === 'float16' ? 2 : 4) * shapes.reduce((sum, shape) => sum + elementCount(shape), 0);
}
