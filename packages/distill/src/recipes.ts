import { cosineSchedule, type Tensor, ZebraError } from '@zebra/tensor';
import type { CausalLM, LayeredCausalLM } from '@zebra/tensor/nn';
import { type BatchTensors, type StepMetrics, type TrainOptions, type TrainResult, train } from '@zebra/tensor/train';
import { type DistillationBatch, type DistillationOptions, distillationLoss } from './distillation.js';
import {
  type LayerDistillationOptions,
  layerDistillationLoss,
  layerDistillationParameters,
} from './layer-distillation.js';

/** What both recipes hand on to the trainer. `data` gives `ids` and, where rows are packed, `positions` and `segments`. */
export interface RecipeOptions extends Omit<TrainOptions, 'device' | 'parameters' | 'loss' | 'learningRate'> {
  /** Peak learning rate. Default: the published one for a 1B model; small models want larger ones. */
  readonly learningRate?: number;
  /** Share of the steps (below 1) or number of steps that warm up, where no `schedule` is given. Default 0.01. */
  readonly warmUp?: number;
}

/** Options of {@link distillLayers}. */
export interface DistillLayersOptions extends RecipeOptions, LayerDistillationOptions {
  /** Frozen. */
  readonly teacher: LayeredCausalLM;
  /** All of its layers are trained, in place. */
  readonly student: LayeredCausalLM;
}

/** Options of {@link distill}. */
export interface DistillOptions extends RecipeOptions, DistillationOptions {
  /** Frozen. */
  readonly teacher: CausalLM;
  /** All of its parameters are trained, in place. */
  readonly student: CausalLM;
  /** What is trained instead of everything, by name. */
  readonly parameters?: ReadonlyMap<string, Tensor>;
}

/**
 * Intermediate-layer distillation (ILD) as a training run: every layer of the student learns to do what the teacher's
 * layer does with the teacher's own input (see {@link layerDistillationLoss}). Embeddings, final norm and head stay.
 * Defaults are the published ones: AdamW, peak rate 2e-4, cosine to 0 after 1% warm-up; gradients are clipped to norm 1.
 *
 * @example
 * for await (const { step, loss } of distillLayers({ teacher, student, data, steps: 100, learningRate: 3e-3 })) {
 *   show(step, loss);
 * }
 * @returns one value a step, as `train()` does; nothing happens until it is iterated
 * @throws ZebraError as `train()` and {@link layerDistillationLoss} do
 */
export function distillLayers(options: DistillLayersOptions): AsyncGenerator<StepMetrics, TrainResult, void> {
  const { teacher, student, mixerWeight, checkpointLayers, ...run } = options;
  return train({
    ...trainingOptions(run, PUBLISHED_LAYER_DISTILLATION['1B'].learningRate),
    device: student.device,
    parameters: layerDistillationParameters(student),
    loss: (batch) => layerDistillationLoss(teacher, student, tokensOf(batch), { mixerWeight, checkpointLayers }),
  });
}

/**
 * End-to-end distillation as a training run: the student's distribution over the next token learns to be the teacher's
 * (see {@link distillationLoss}). Defaults are the published ones: AdamW, peak rate 8e-5, cosine to 0 after 1% warm-up;
 * gradients are clipped to norm 1, which for losses a token hardly ever acts (see {@link PUBLISHED_DISTILLATION}).
 *
 * @returns one value a step, as `train()` does; nothing happens until it is iterated
 * @throws ZebraError as `train()` and {@link distillationLoss} do
 */
export function distill(options: DistillOptions): AsyncGenerator<StepMetrics, TrainResult, void> {
  const { teacher, student, parameters = student.namedParameters(), ...run } = options;
  const { temperature, divergenceWeight, crossEntropyWeight, checkpointLayers, ...rest } = run;
  const lossOptions = { temperature, divergenceWeight, crossEntropyWeight, checkpointLayers };
  return train({
    ...trainingOptions(rest, PUBLISHED_DISTILLATION['1B'].learningRate),
    device: student.device,
    parameters,
    loss: (batch) => distillationLoss(teacher, student, tokensOf(batch), lossOptions),
  });
}

function trainingOptions(
  { warmUp = 0.01, learningRate, schedule, optimizer, ...rest }: RecipeOptions,
  published: number,
): Omit<TrainOptions, 'device' | 'parameters' | 'loss'> {
  return {
    ...rest,
    learningRate: learningRate ?? published,
    // An impossible number of steps is left to train() to report.
    schedule: schedule ?? (rest.steps >= 1 ? cosineSchedule({ steps: rest.steps, warmUp }) : undefined),
    optimizer: { maxGradientNorm: 1, ...optimizer },
  };
}

function tokensOf({ ids, positions, segments, targets }: BatchTensors): DistillationBatch {
  if (!ids) throw new ZebraError('data', "distillation: the data source's batches have no `ids`");
  return { ids, positions, segments, targets };
}

/** One published run of Zebra-Llama (arXiv 2505.17272). */
export interface PublishedRecipe {
  /** Sequences a step. */
  readonly batchSize: number;
  /** Tokens of a sequence. */
  readonly length: number;
  /** Peak, reached after the warm-up; then a cosine to 0. */
  readonly learningRate: number;
  /** Share of the steps that warm up. */
  readonly warmUp: number;
  /** Tokens of the run. */
  readonly tokens: number;
  /** Norm that gradients of the loss a token are clipped to. */
  readonly maxGradientNorm?: number;
  /** AdamW's ε for gradients of the loss a token. */
  readonly epsilon?: number;
}

/** Sizes of the released models. */
export type PublishedSize = '1B' | '3B' | '8B';

const LENGTH = 2048;
const TOKENS = { '1B': 5.4e9, '3B': 7.4e9, '8B': 9.4e9 } as const;

/** The published runs of intermediate-layer distillation: the first fifth of the tokens. */
export const PUBLISHED_LAYER_DISTILLATION: Readonly<Record<PublishedSize, PublishedRecipe>> = {
  '1B': { batchSize: 96, length: LENGTH, learningRate: 2e-4, warmUp: 0.01, tokens: 0.2 * TOKENS['1B'] },
  '3B': { batchSize: 96, length: LENGTH, learningRate: 2e-4, warmUp: 0.01, tokens: 0.2 * TOKENS['3B'] },
  '8B': { batchSize: 48, length: LENGTH, learningRate: 1e-4, warmUp: 0.01, tokens: 0.2 * TOKENS['8B'] },
};

/**
 * The published runs of end-to-end distillation. The reference divides its loss by sequences only, so that its
 * gradients are `length` times larger than those of the mean over tokens, and clips them to norm 1, which then almost
 * always acts. The same run with the loss a token has both the clip and AdamW's ε divided by `length`, as here.
 */
export const PUBLISHED_DISTILLATION: Readonly<Record<PublishedSize, PublishedRecipe>> = {
  '1B': published(192, 8e-5, TOKENS['1B']),
  '3B': published(96, 4e-5, TOKENS['3B']),
  '8B': published(64, 4e-5, TOKENS['8B']),
};

function published(batchSize: number, learningRate: number, tokens: number): PublishedRecipe {
  const perToken = { maxGradientNorm: 1 / LENGTH, epsilon: 1e-8 / LENGTH };
  return { batchSize, length: LENGTH, learningRate, warmUp: 0.01, tokens, ...perToken };
}
