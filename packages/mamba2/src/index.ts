export {
  type Mamba2Config,
  type Mamba2Sizes,
  type Mamba2WeightName,
  mamba2Sizes,
  mamba2WeightSpecs,
} from './config.js';
export { type Mamba2Context, Mamba2Layer } from './layer.js';
export { type CausalConvolutionOptions, causalConvolution } from './ops/causal-convolution/index.js';
export { type GatedNormOptions, gatedNorm } from './ops/gated-norm/index.js';
export {
  type StateSpaceOperands,
  type StateSpaceResult,
  type StateSpaceStepOperands,
  stateSpaceScan,
  stateSpaceStep,
} from './ops/ssd/index.js';
export { Mamba2State } from './state.js';
export { createMamba2Weights } from './weights.js';
