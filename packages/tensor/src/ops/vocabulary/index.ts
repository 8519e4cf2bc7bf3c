export {
  type Chunk,
  ChunkLogits,
  chunksOf,
  isHalf,
  keptLogitsSpec,
  pieceRowsOf,
  piecesOf,
  type Rows,
  resolveChunkRows,
} from './chunks.js';
export { logSums } from './log-sum.wgsl.js';
export {
  assertReduction,
  type HiddenLogits,
  type Logits,
  logitInputs,
  logitsGeometry,
  type PlainLogits,
  type Reduction,
  vocabularyOf,
} from './logits.js';
export { finishGradient, gradientSumSpecs, LogitsGradient, logitsScale, peakOf } from './logits-gradient.js';
export { upstream } from './logits-gradient.wgsl.js';
export { type OnePassNeeds, onePassGradients, onePassNeeds, onePassOutputs, onePassSums } from './one-pass.js';
export { maskedMean, meanInto, meanOfRows, meanReference, selectedMeanOp } from './selected-mean.js';
export {
  assertIgnoreIndex,
  assertSelection,
  IGNORE_INDEX,
  SELECTED,
  SELECTION_PARAMS,
  type Selection,
  selectionParams,
} from './selection.js';
