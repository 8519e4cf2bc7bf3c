export {
  type Chunk,
  chunksOf,
  LogitsGradient,
  logitsOf,
  type Rows,
  resolveChunkRows,
  scratchSpec,
} from './chunks.js';
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
export { maskedMean, meanOfRows, selectedMeanOp } from './selected-mean.js';
export {
  assertIgnoreIndex,
  assertSelection,
  IGNORE_INDEX,
  LOWEST,
  SELECTED,
  SELECTION_PARAMS,
  type Selection,
  selectionParams,
} from './selection.js';
