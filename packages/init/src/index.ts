export type { AttentionTensors } from './attention-tensors.js';
export type { AttentionShape, AttentionWeights, LinearAttention } from './attention-weights.js';
export {
  type EnergyRankOptions,
  energyKept,
  energyRank,
  type LayerEnergyRankRequest,
  layerEnergyRank,
} from './energy-rank.js';
export {
  attentionSingularValues,
  type InitialisedLayer,
  type InitialiseMamba2Options,
  type InitialiseMlaOptions,
  initialiseMamba2,
  initialiseMla,
} from './from-tensors.js';
export type { HostMatrix, HostTensor } from './host-tensor.js';
export { InitError, type InitErrorDetails, type InitWarning } from './init-error.js';
export {
  type LeftSingularVectors,
  leftSingularVectors,
  type SingularValueDecomposition,
  singularValueDecomposition,
  singularValues,
} from './linear-algebra/svd.js';
export {
  type Mamba2FromAttentionOptions,
  type Mamba2FromAttentionResult,
  mamba2WeightsFromAttention,
} from './mamba2-from-attention.js';
export { assembleMlaWeights, type MlaBases, type MlaSources, mlaSources } from './mla-assembly.js';
export { type MlaFromAttentionResult, mlaWeightsFromAttention, type TruncationErrors } from './mla-from-attention.js';
export type { AttentionSpectra } from './mla-on-device.js';
export type { MlaFromAttentionOptions, RankChoice } from './mla-options.js';
export type { RopeMatching } from './rope-rows.js';
export { deviceSingularValues } from './subspace/bidiagonal.js';
export { type LeadingSubspace, type LeadingSubspaceOptions, leadingSubspace } from './subspace/leading-subspace.js';
