export { assembleSource } from '../device/kernel.js';
export { attentionWithTiles } from '../ops/attention/index.js';
export type { MatrixTiles as AttentionTiles } from '../ops/attention/matrix-choice.js';
export { type CaseInput, checkOp, type OpCase, type Tolerance } from './check-op.js';
export { relativeError } from './compare.js';
export { type LinearModelSizes, linearModel, type OwnedModel } from './linear-model.js';
export { normalValues, uniformSource } from './random-inputs.js';
export { type TestVariant, testDevice } from './test-device.js';
export { validateWgsl } from './validate-wgsl.js';
