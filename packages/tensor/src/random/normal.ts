import { allocateTensor } from '../core/define-op.js';
import type { DType } from '../core/dtype.js';
import { assertShape, dtypeError, type Shape } from '../core/shape.js';
import type { Tensor } from '../core/tensor.js';
import type { Device } from '../device/device.js';
import { defineKernel, linearMain } from '../device/kernel.js';

/** Options of {@link randomNormal}. */
export interface RandomNormalOptions {
  /** Different seeds give independent tensors; the same seed the same tensor on one device. uint32. Default 0. */
  readonly seed?: number;
  /** Standard deviation. Default 1. */
  readonly deviation?: number;
  /** float32 or float16. Default float32. */
  readonly dtype?: DType;
}

/**
 * A tensor of normal numbers of mean 0, made on the device: for weights of models that a host would take minutes to draw.
 * Element i is a function of the seed and i alone. Numbers are hashed counters (PCG, O'Neill 2014) through Box and
 * Muller's transform; they are for initialisation and measuring, not for statistics in the far tails (at most 6.7 σ).
 *
 * @returns a tensor that the caller owns
 * @throws ZebraError `shape` or `dtype`
 */
export function randomNormal(device: Device, shape: Shape, options: RandomNormalOptions = {}): Tensor {
  assertShape('randomNormal', shape);
  const { seed = 0, deviation = 1, dtype = 'float32' } = options;
  if (dtype !== 'float32' && dtype !== 'float16') dtypeError('randomNormal', 'dtype', 'float32 or float16', dtype);
  const made = allocateTensor(device, { shape, dtype });
  device.dispatch(normalKernel, {
    bindings: { y: made.range() },
    params: { count: made.size, seed: seed >>> 0, deviation },
    groups: Math.ceil(made.size / device.workgroupOf(normalKernel)),
  });
  return made;
}

const normalKernel = defineKernel({
  name: 'random_normal',
  bindings: { y: 'write' },
  params: { count: 'u32', seed: 'u32', deviation: 'f32' },
  source: () => /* wgsl */ `
fn pcg(v: u32) -> u32 {
  let state = v * 747796405u + 2891336453u;
  let word = ((state >> ((state >> 28u) + 4u)) ^ state) * 277803737u;
  return (word >> 22u) ^ word;
}
${linearMain(
  'p.count',
  `
  let first = pcg(i ^ pcg(p.seed));
  let second = pcg(first + 0x9e3779b9u);
  // In (0, 1]: its logarithm is finite.
  let u = (f32(first >> 8u) + 1.0) / 16777216.0;
  let angle = 6.2831853 * f32(second >> 8u) / 16777216.0;
  // Some GPUs' logarithm of 1 is a little above 0.
  y[i] = y_t(p.deviation * sqrt(max(0.0, -2.0 * log(u))) * cos(angle));`,
)}`,
});
