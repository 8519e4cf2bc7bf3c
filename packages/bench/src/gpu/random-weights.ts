import { type ModelSpec, modelSpecs } from '@zebra/runtime';
import {
  type Device,
  type DType,
  fill,
  keep,
  randomNormal,
  type Shape,
  scope,
  shift,
  type Tensor,
} from '@zebra/tensor';

/**
 * Random weights of a model's true shapes, of about the size that trained ones have, made on the device.
 *
 * @param matrices dtype of the weights of linear layers and of the embedding. Default float32.
 * @returns them, owned by the caller
 */
export function randomWeights(
  device: Device,
  spec: ModelSpec,
  { matrices = 'float32' }: { readonly matrices?: DType } = {},
): Map<string, Tensor> {
  return new Map(
    [...modelSpecs(spec)].map(([name, shape], seed) => [name, keep(weight(device, name, shape, seed, matrices))]),
  );
}

function weight(device: Device, name: string, shape: Shape, seed: number, matrices: DType): Tensor {
  if (/norm|\.D$/.test(name)) return fill(device, shape, 1);
  // Decays of 1 to 16 a step, steps of 0.01 to 0.1 (softplus of the bias).
  if (name.endsWith('A_log')) return scope(() => shift(randomNormal(device, shape, { seed, deviation: 0.5 }), 1.5));
  if (name.endsWith('dt_bias')) return scope(() => shift(randomNormal(device, shape, { seed, deviation: 0.5 }), -3.5));
  if (shape.length !== 2) return randomNormal(device, shape, { seed, deviation: 0.2 });
  const deviation = name.includes('embed') ? 0.02 : (shape[1] as number) ** -0.5;
  return randomNormal(device, shape, { seed, deviation, dtype: matrices });
}
