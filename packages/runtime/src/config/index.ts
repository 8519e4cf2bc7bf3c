export { type CreateHybridOptions, createHybridConfig } from './create-hybrid-config.js';
export type {
  HybridConfig,
  HybridLayerKind,
  HybridMamba2Config,
  HybridMlaConfig,
  MlaRanks,
} from './hybrid-config.js';
export { parseHybridConfig } from './parse-hybrid-config.js';
export type { RopeConfig, RopeScaling } from './rope-config.js';
export {
  type ParseConfigOptions,
  parseTransformerConfig,
  type TransformerConfig,
  type TransformerType,
} from './transformer-config.js';
export { type WriteHybridConfigOptions, writeHybridConfig } from './write-hybrid-config.js';
export { writeTransformerConfig } from './write-transformer-config.js';
export { parseXEcoMlaConfig } from './x-ecomla-config.js';
