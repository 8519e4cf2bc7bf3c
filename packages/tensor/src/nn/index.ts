export type { RopeTables } from '../ops/rope/index.js';
export type {
  Cache,
  CacheContext,
  CausalLM,
  ComputeDType,
  ForwardOptions,
  LayeredCausalLM,
  LayerObservation,
  LayerResult,
  Mixer,
  MixerState,
  SequenceContext,
  StepNorm,
} from './causal-lm.js';
export { composeLayers } from './compose.js';
export {
  buildRopeTables,
  type Llama3Scaling,
  llama3Frequencies,
  plainFrequencies,
  ropeAngles,
  type YarnFrequencies,
  type YarnScaling,
  yarnFrequencies,
  yarnMagnitude,
} from './rope-tables.js';
export { runLayers } from './run-layers.js';
export { SequenceCache } from './sequence-cache.js';
export { checkWeights, type WeightSpecs } from './strict-weights.js';
