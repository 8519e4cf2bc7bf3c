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
  /** Tokens of a training or evaluation row. */
  readonly length: number;
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

export const ROW_LENGTH = 256;

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
  // About a second a step where the adapter is slow, so that there are enough steps to learn in.
  const rows = full ? 32 : powerOfTwo(tokensPerSecond / 4 / ROW_LENGTH, 2, 32);
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
    length: ROW_LENGTH,
    evaluationRows: powerOfTwo(tokensPerSecond / 2 / ROW_LENGTH, 4, 64),
    validationTokens: ROW_LENGTH * powerOfTwo((2 * tokensPerSecond) / ROW_LENGTH, 16, 512),
    calibrationTokens: ROW_LENGTH * powerOfTwo(tokensPerSecond / 3 / ROW_LENGTH, 4, 64),
    pairs: {
      train: full ? 2560 : 32 * powerOfTwo(tokensPerSecond / 4000, 1, 16),
      evaluation: full ? 512 : 16 * powerOfTwo(tokensPerSecond / 2000, 2, 16),
      length: full ? 128 : 64,
      beta: 0.1,
    },
    sampleTokens: 64,
    stages: {
      mla: stage('mla', 3e-3),
      mamba2: stage('mamba2', 3e-3),
      distillation: stage('distillation', 2e-3),
      preferences: stage('preferences', 5e-5, full ? 32 : powerOfTwo(rows, 4, 32)),
    },
  };
}

/** The largest power of two up to a number, held between two. */
function powerOfTwo(value: number, least: number, most: number): number {
  return Math.min(most, Math.max(least, 2 ** Math.floor(Math.log2(Math.max(1, value)))));
}
