import { add, crossEntropy, klDivergence, scale, scope, type Tensor, ZebraError } from '@zebra/tensor';
import type { CausalLM } from '@zebra/tensor/nn';
import { contextOf, type TokenBatch } from './layer-distillation.js';

/** A batch for end-to-end distillation. */
export interface DistillationBatch extends TokenBatch {
  /** int32 [B, T], −100 where there is none; only read with a cross-entropy weight. */
  readonly targets?: Tensor;
}

/** Options of {@link distillationLoss}. */
export interface DistillationOptions {
  /** Both distributions are softened by it. Default 1. */
  readonly temperature?: number;
  /** Weight of the KL term. Default 1. */
  readonly divergenceWeight?: number;
  /** Weight of the next-token cross-entropy. Default 0, as published. */
  readonly crossEntropyWeight?: number;
  /** Recompute the student's layers in the backward pass instead of keeping their activations. Default false. */
  readonly checkpointLayers?: boolean;
}

/**
 * End-to-end distillation: KL(p_T‖p_S) as the mean over every token, in nats, optionally with cross-entropy. The
 * vocabulary is streamed: full logits are never stored, for neither model.
 *
 * The reference's `batchmean` divides by sequences only, so its loss and gradients are T times larger than these.
 *
 * @returns a float32 tensor of one element, with gradients to the student alone
 * @throws ZebraError `argument` when the vocabularies differ, or targets are missing
 */
export function distillationLoss(
  teacher: CausalLM,
  student: CausalLM,
  batch: DistillationBatch,
  options: DistillationOptions = {},
): Tensor {
  const { temperature = 1, divergenceWeight = 1, crossEntropyWeight = 0, checkpointLayers = false } = options;
  if (teacher.vocabularySize !== student.vocabularySize) {
    throw new ZebraError(
      'argument',
      `distillationLoss: the teacher has ${teacher.vocabularySize} tokens, the student ${student.vocabularySize}. They must share a tokenizer.`,
    );
  }
  const { targets } = batch;
  if (crossEntropyWeight !== 0 && !targets) {
    throw new ZebraError('argument', 'distillationLoss: crossEntropyWeight needs targets in the batch');
  }
  return scope(() => {
    const context = contextOf(batch);
    const hidden = student.forward(batch.ids, { ...context, checkpointLayers });
    const divergence = klDivergence(
      {
        teacher: { hidden: teacher.forward(batch.ids, context), head: teacher.headWeight },
        student: { hidden, head: student.headWeight },
      },
      { temperature },
    );
    const weighted = divergenceWeight === 1 ? divergence : scale(divergence, divergenceWeight);
    if (crossEntropyWeight === 0 || !targets) return weighted;
    const entropy = crossEntropy({ hidden, head: student.headWeight, targets });
    return add(weighted, scale(entropy, crossEntropyWeight));
  });
}
