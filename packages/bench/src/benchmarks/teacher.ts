import { HybridModel, type ModelSpec, modelSpec, modelSpecs, parseTransformerConfig } from '@zebra/runtime';
import { type Device, fill, keep } from '@zebra/tensor';
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
