export type { Batch, BatchSource, JsonValue } from './batch-source.js';
export {
  CHECKPOINT_FILE,
  type CheckpointTensors,
  hasCheckpoint,
  restoreCheckpoint,
  type SaveCheckpointOptions,
  saveCheckpoint,
  type TrainerState,
} from './checkpoint.js';
export type { TokenDocument } from './corpus.js';
export { type EvaluationBatches, type EvaluationOptions, evaluationBatches } from './evaluation-batches.js';
export { appendMetrics, type MetricsFile } from './metrics-file.js';
export { type Boundaries, IGNORED_TARGET, PADDING_SEGMENT, type PackedBatch } from './packed-rows.js';
export { type PackedSource, type PackOptions, packDocuments } from './packing.js';
export type { BatchTensors, LossFunction } from './step-runner.js';
export { type StepMetrics, type TrainResult, train } from './train.js';
export type { CheckpointOptions, EvaluateOptions, TrainOptions } from './train-options.js';
