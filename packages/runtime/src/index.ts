export { loadModel, type LoadModelOptions, readModelSpec } from './checkpoint/load-model.js';
export { loadWeights, type LoadWeightsOptions } from './checkpoint/load-weights.js';
export { saveModel, type SaveModelOptions } from './checkpoint/save-model.js';
export {
  createHybridConfig,
  type CreateHybridOptions,
  type HybridConfig,
  type HybridLayerKind,
  type HybridMamba2Config,
  type HybridMlaConfig,
  type MlaRanks,
  parseHybridConfig,
  type ParseConfigOptions,
  parseTransformerConfig,
  type RopeConfig,
  type RopeScaling,
  type TransformerConfig,
  type TransformerType,
  writeHybridConfig,
  type WriteHybridConfigOptions,
} from './config/index.js';
export { AttentionLayer, type AttentionConfig, AttentionState, attentionSpecs } from './models/attention-layer.js';
export { HybridModel } from './models/model.js';
export { type ModelSpec, modelSpec } from './models/model-spec.js';
export type { LayerKind } from './models/prefixes.js';
export { frequenciesOf } from './models/rope.js';
export { modelSpecs } from './models/specs.js';
