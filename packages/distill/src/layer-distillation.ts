import { add, checkpoint, mean, reshape, rowDistance, scale, scope, type Tensor, ZebraError } from '@zebra/tensor';
import type { LayeredCausalLM, LayerObservation, SequenceContext } from '@zebra/tensor/nn';

/** A batch of tokens, int32 [B, T] each. */
export interface TokenBatch {
  readonly ids: Tensor;
  readonly positions?: Tensor;
  readonly segments?: Tensor;
}

/** Options of {@link layerDistillationLoss}. */
export interface LayerDistillationOptions {
  /** Weight of ‖a^S − a^T‖₂ on the mixers' outputs beside the layers' outputs. Default 0, as published first. */
  readonly mixerWeight?: number;
  /** Recompute each student layer in the backward pass instead of keeping its activations. Default false. */
  readonly checkpointLayers?: boolean;
}

/**
 * The loss of intermediate-layer distillation (ILD; MambaInLlama and Zebra-Llama): every student layer is fed the
 * teacher's own input to that layer, so that no gradient crosses layers, and
 *
 *   Σ_l mean over tokens of ‖h^S_l − h^T_l‖₂,
 *
 * not squared and not divided by the hidden size; the last layer after the final norm.
 *
 * @returns a float32 tensor of one element
 * @throws ZebraError `argument` when teacher and student differ in depth or hidden size
 */
export function layerDistillationLoss(
  teacher: LayeredCausalLM,
  student: LayeredCausalLM,
  batch: TokenBatch,
  options: LayerDistillationOptions = {},
): Tensor {
  if (teacher.layerCount !== student.layerCount || teacher.hiddenSize !== student.hiddenSize) {
    throw new ZebraError(
      'argument',
      `layerDistillationLoss: the teacher has ${teacher.layerCount} layers of size ${teacher.hiddenSize}, the student ${student.layerCount} of ${student.hiddenSize}. ILD needs a student of the teacher's shape.`,
    );
  }
  const context = contextOf(batch);
  return scope(() => {
    const seen: LayerObservation[] = [];
    const final = teacher.forward(batch.ids, { ...context, observe: (_, layer) => seen.push(layer) });
    const terms = seen.map((target, layer) => {
      const goal = layer === seen.length - 1 ? final : target.output;
      return layerTerm(student, layer, target, goal, context, options);
    });
    return terms.reduce((total, term) => add(total, term));
  });
}

function layerTerm(
  student: LayeredCausalLM,
  layer: number,
  target: LayerObservation,
  goal: Tensor,
  context: SequenceContext,
  { mixerWeight = 0, checkpointLayers = false }: LayerDistillationOptions,
): Tensor {
  const run = (input: Tensor, outputGoal: Tensor, mixerGoal: Tensor): Tensor => {
    const { output, mixerOutput } = student.forwardLayer(layer, input, context);
    const hidden = layer === student.layerCount - 1 ? student.finalNorm(output) : output;
    const distance = meanDistance(hidden, outputGoal);
    return mixerWeight === 0 ? distance : add(distance, scale(meanDistance(mixerOutput, mixerGoal), mixerWeight));
  };
  // What is recomputed later must hold all that it needs, the teacher's outputs too.
  const given = [target.input, goal, target.mixerOutput] as const;
  return checkpointLayers ? checkpoint(given, run) : run(...given);
}

function meanDistance(a: Tensor, b: Tensor): Tensor {
  const size = a.shape[a.shape.length - 1] as number;
  return mean(rowDistance(reshape(a, [-1, size]), reshape(b, [-1, size])));
}

/** What ILD trains: every parameter of the layers; embeddings, final norm and head stay the teacher's. */
export function layerDistillationParameters(student: LayeredCausalLM): Map<string, Tensor> {
  const all = new Map<string, Tensor>();
  for (let layer = 0; layer < student.layerCount; layer++) {
    for (const [name, parameter] of student.layerParameters(layer)) all.set(name, parameter);
  }
  return all;
}

/** The batch's positions and segments, as layers and models take them. */
export function contextOf({ positions, segments }: TokenBatch): Pick<SequenceContext, 'positions' | 'segments'> {
  return { positions, segments };
}
