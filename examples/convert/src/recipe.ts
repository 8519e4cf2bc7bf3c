import type { TrainingStage } from './budget.js';
import type { StageSteps } from './options.js';

/** How one stage trains. */
export interface StageRecipe {
  /** Rows (for DPO: pairs) a step. */
  readonly batchSize: number;
  /** Peak learning rate. */
  readonly learningRate: number;
  /** Share of the steps that warm up. */
  readonly warmUp: number;
  /** A fixed number of steps, or undefined: as many as fit the time, between `least` and `most`. */
  readonly steps: number | undefined;
  readonly least: number;
  readonly most: number;
}

/** Everything that a run's size depends on. */
export interface DemoRecipe {
  readonly name: 'fitted' | 'full';
  /** Tokens of a training row. */
  readonly length: number;
  /** Weight of the mixers' outputs in intermediate-layer distillation. */
  readonly mixerWeight: number;
  /** Tokens of a row that is only evaluated. */
  readonly evaluationLength: number;
  /** Rows of a batch that is only evaluated. */
  readonly evaluationRows: number;
  /** Held-out tokens that every model's loss is taken on. */
  readonly validationTokens: number;
  /** Tokens that SMART scores are taken on. */
  readonly calibrationTokens: number;
  readonly pairs: {
    readonly train: number;
    readonly evaluation: number;
    readonly length: number;
    readonly beta: number;
  };
  readonly sampleTokens: number;
  readonly stages: Readonly<Record<TrainingStage, StageRecipe>>;
}

/** Training tokens that are read from the corpora: more than a run without a GPU gets through. */
export const TRAIN_TOKENS = { software: 400_000, hardware: Number.POSITIVE_INFINITY } as const;

/** Tokens of an evaluation row: what the teacher was trained with. */
export const EVALUATION_LENGTH = 256;

/** Steps of the full recipe. */
const FULL_STEPS: StageSteps = { mla: 1500, mamba2: 2500, distillation: 6000, preferences: 80 };

/**
 * The sizes for an adapter. Batches and samples grow with its speed; the published learning rates are for models a
 * thousand times as large, and much too small for these.
 *
 * @param tokensPerSecond at which the teacher runs forward, its loss included
 * @param fixed step counts instead of those that fit the time
 */
export function recipeFor(
  tokensPerSecond: number,
  { full, fixed }: { readonly full: boolean; readonly fixed: StageSteps | undefined },
): DemoRecipe {
  const steps = fixed ?? (full ? FULL_STEPS : undefined);
  // Where there is time for some ten thousand tokens only, many steps of few tokens in short rows, and large ones, learn
  // most.
  const length = full ? EVALUATION_LENGTH : powerOfTwo(tokensPerSecond / 64, 128, EVALUATION_LENGTH);
  const rows = full ? 32 : powerOfTwo(tokensPerSecond / 16 / length, 2, 32);
  const rates = full ? { layers: 3e-3, distillation: 2e-3 } : { layers: 1e-2, distillation: 4e-4 };
  const stage = (name: TrainingStage, learningRate: number, batchSize = rows): StageRecipe => ({
    batchSize,
    learningRate,
    warmUp: 0.05,
    steps: steps?.[name],
    least: 8,
    most: FULL_STEPS[name],
  });
  return {
    name: full ? 'full' : 'fitted',
    length,
    mixerWeight: full ? 0 : 1,
    evaluationLength: EVALUATION_LENGTH,
    evaluationRows: powerOfTwo(tokensPerSecond / 2 / EVALUATION_LENGTH, 4, 64),
    validationTokens: EVALUATION_LENGTH * powerOfTwo((2 * tokensPerSecond) / EVALUATION_LENGTH, 8, 512),
    calibrationTokens: EVALUATION_LENGTH * powerOfTwo(tokensPerSecond / 3 / EVALUATION_LENGTH, 4, 64),
    pairs: {
      train: full ? 2560 : 32 * powerOfTwo(tokensPerSecond / 1000, 1, 16),
      evaluation: full ? 512 : 16 * powerOfTwo(tokensPerSecond / 1000, 2, 16),
      length: full ? 128 : 64,
      beta: 0.1,
    },
    sampleTokens: 64,
    stages: {
      mla: stage('mla', rates.layers),
      mamba2: stage('mamba2', rates.layers),
      distillation: stage('distillation', rates.distillation),
      preferences: stage('preferences', full ? 5e-5 : 3e-5, full ? 32 : powerOfTwo(rows, 4, 32)),
    },
  };
}

/** The largest power of two up to a number, held between two. */
function powerOfTwo(value: number, least: number, most: number): number {
  return Math.min(most, Math.max(least, 2 ** Math.floor(Math.log2(Math.max(1, value)))));
}
