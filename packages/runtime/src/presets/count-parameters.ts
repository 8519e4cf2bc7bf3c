import type { ModelSpec } from '../models/model-spec.js';
import { modelSpecs } from '../models/specs.js';

/**
 * How many parameters a model has, exactly, from the shapes of its checkpoint's tensors (`modelSpecs()`): embeddings,
 * norms, mixers with their biases and scalars (`A_log`, `D`, `dt_bias`), MLPs and head. A tied model's head is its
 * embedding and counts once.
 */
export function countParameters(spec: ModelSpec): number {
  let count = 0;
  for (const shape of modelSpecs(spec).values()) count += shape.reduce((size, length) => size * length, 1);
  return count;
}
