export { type MlaConfig, type MlaRopeScaling, type MlaSizes, mlaSizes, mlaWeightSpecs } from './config.js';
export { MlaState } from './latent-cache.js';
export { MlaLayer, type MlaLayerOptions } from './layer.js';
export {
  type AbsorbAttributes,
  absorbQueries,
  absorbQueriesOp,
  expandValues,
  expandValuesOp,
} from './ops/absorb/index.js';
export { type JoinKeysAttributes, joinKeys, joinKeysOp } from './ops/join-keys/index.js';
export { joinLatent, type SplitLatentAttributes, splitLatent, splitLatentOp } from './ops/split-latent/index.js';
export { createMlaWeights } from './weights.js';
