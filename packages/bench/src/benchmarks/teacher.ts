import { HybridModel, type ModelSpec, modelSpec, modelSpecs, parseTransformerConfig } from '@zebra/runtime';
import { type Device, elementCount, fill, keep } from '@zebra/tensor';
import { TEACHER_CONFIG } from 'zebra-example-train-teacher';
import { randomTensor } from './inputs.js';

/** The model that the examples train and convert. */
export const teacherSpec = modelSpec(parseTransformerConfig(TEACHER_CONFIG));

/** A model with random weights, of about the size that fresh ones have. It owns them. */
export function randomModel(device: Device, spec: ModelSpec): HybridModel {
  const weights = [...modelSpecs(spec)].map(([name, shape], seed) => {
    const made = name.includes('norm')
      ? fill(device, shape, 1)
      : randomTensor(device, shape, { deviation: name.includes('embed') ? 0.05 : (shape[1] ?? 1) ** -0.5, seed });
    return [name, keep(made)] as const;
  });
  return new HybridModel(device, spec, new Map(weights));
}

/** Elements of all parameters. */
export function parameterCount(spec: ModelSpec): number {
  return [...modelSpecs(spec).values()].reduce((total, shape) => total + elementCount(shape), 0);
}

/**
 * Operations of a forward pass of a plain Transformer over rows of `length` tokens, the head included: two a weight
 * and token (a tied embedding counts once, as the head), and causal attention.
 */
export function forwardFlops({ config, layers }: ModelSpec, parameters: number, rows: number, length: number): number {
  const pairs = (rows * length * (length + 1)) / 2;
  return 2 * parameters * rows * length + 4 * layers.length * config.headCount * config.headDim * pairs;
}

/** Bytes that one token adds to the keys and values of all layers, in float32. */
export function cacheBytesPerToken({ config, layers }: ModelSpec): number {
  return layers.length * 2 * config.keyValueHeadCount * config.headDim * 4;
}
