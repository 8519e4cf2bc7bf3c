export { checkpoint } from './core/checkpoint.js';
export { type CreateOptions, empty, fill, tensor, zeros } from './core/create.js';
export {
  allocateTensor,
  type BackwardCall,
  defineOp,
  type ForwardCall,
  type Op,
  type OpDefinition,
  type OpInputs,
  type Reference,
  type SavedTensors,
} from './core/define-op.js';
export type { DType, HostData } from './core/dtype.js';
export {
  type Differentiated,
  type GradientOptions,
  type GradientsOf,
  type ValueAndGradients,
  valueAndGradients,
} from './core/gradients.js';
export { type HostTensor, hostTensor } from './core/host.js';
export { keep, scope } from './core/scope.js';
export { elementCount, type Shape, type TensorSpec } from './core/shape.js';
export { type ReadData, Tensor } from './core/tensor.js';
export type { Device, DeviceInfo, DeviceOptions, DeviceStatistics, MatrixShape, Program } from './device/device.js';
export { defineKernel, type Kernel, type KernelVariant, linearMain, rowMain } from './device/kernel.js';
export {
  type MatrixArray,
  type MatrixUnitSizes,
  MatrixUnits,
  matrixDirectives,
} from './device/matrix-units.wgsl.js';
export { type MemoryItem, type MemoryReport, memoryReport } from './device/memory-report.js';
export { type AdapterChoice, type OpenDeviceOptions, openDevice } from './device/open.js';
export type { KernelTime } from './device/profile.js';
export { ZebraError, type ZebraErrorCode } from './errors.js';
export { type ArgmaxOptions, argmax } from './ops/argmax/index.js';
export { type AttentionOptions, attention } from './ops/attention/index.js';
export { advance, advanceAll, cacheWrite } from './ops/cache-write/index.js';
export { cast } from './ops/cast/index.js';
export { concat } from './ops/concat/index.js';
export { type CrossEntropyOptions, crossEntropy } from './ops/cross-entropy/index.js';
export { checkTokenIds, embedding } from './ops/embedding/index.js';
export { type KlDivergenceArguments, type KlDivergenceOptions, klDivergence } from './ops/kl-divergence/index.js';
export {
  type LinearOptions,
  linear,
  type MatmulCandidate,
  type MatmulIntoOptions,
  type MatmulOptions,
  type MatmulProduct,
  type MatrixPlan,
  matmul,
  matmulInto,
  type TunedMatmul,
  type TuneMatmulOptions,
  tuneMatmul,
} from './ops/matmul/index.js';
export { permute } from './ops/permute/index.js';
export {
  absolute,
  add,
  divide,
  exponential,
  logarithm,
  maximum,
  minimum,
  multiply,
  negate,
  relu,
  scale,
  shift,
  sigmoid,
  silu,
  softplus,
  square,
  squareRoot,
  subtract,
  tanh,
} from './ops/pointwise/index.js';
export { type ProjectOptions, project } from './ops/project/index.js';
export { mean, type ReduceOptions, sum } from './ops/reduce/index.js';
export { reshape } from './ops/reshape/index.js';
export { type RmsNormOptions, rmsNorm } from './ops/rms-norm/index.js';
export { type RopeLayout, type RopeOptions, type RopeTables, rope } from './ops/rope/index.js';
export { type RopeIntoCacheArguments, ropeIntoCache } from './ops/rope-cache/index.js';
export { rowDistance } from './ops/row-distance/index.js';
export { slice, split } from './ops/slice/index.js';
export { logSoftmax, softmax } from './ops/softmax/index.js';
export { swiglu } from './ops/swiglu/index.js';
export {
  type TokenLogProbabilityArguments,
  type TokenLogProbabilityOptions,
  tokenLogProbabilities,
} from './ops/token-log-probability/index.js';
export {
  type HiddenLogits,
  type Logits,
  maskedMean,
  type PlainLogits,
  type Reduction,
} from './ops/vocabulary/index.js';
export {
  AdamW,
  type AdamWOptions,
  type CosineOptions,
  constantSchedule,
  cosineSchedule,
  type Gradients,
  LossScale,
  type LossScaleOptions,
  type LossScaleState,
  type Schedule,
} from './optim/index.js';
export { type RandomNormalOptions, randomNormal } from './random/normal.js';
export { Random, type RandomState } from './random/random.js';
export {
  type ConversionFindings,
  type DownloadOptions,
  downloadTensor,
  type FloatType,
  type TensorUpload,
  type UploadOptions,
  uploadTensors,
} from './transfer/index.js';
