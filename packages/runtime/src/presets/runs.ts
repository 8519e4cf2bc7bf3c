import type { PresetSize } from './base-models.js';

/** One published distillation run. */
export interface PresetRun {
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

/** The published preference tuning: one epoch with a cosine to 0. */
export interface PresetPreferenceRun {
  /** How strongly the policy is held to the distilled model. */
  readonly beta: number;
  /** Peak. */
  readonly learningRate: number;
  /** Share of the steps that warm up. */
  readonly warmUp: number;
  /** Pairs a step. */
  readonly batchSize: number;
  /** Tokens of a prompt, cut from the left. */
  readonly maxPromptLength: number;
  /** Tokens of prompt and response. */
  readonly maxLength: number;
}

/** The three runs that trained a published hybrid, in their order. */
export interface PresetRuns {
  /** Layer by layer (ILD), of two pure students: all MLA and all Mamba2. */
  readonly layerDistillation: PresetRun;
  /** End to end, of the hybrid that is composed of the two. The weights called SFT. */
  readonly distillation: PresetRun;
  /** The weights called DPO. */
  readonly preferenceTuning: PresetPreferenceRun;
}

const LENGTH = 2048;
const ILD_SHARE = 0.2;

function runs(tokens: number, layers: [batch: number, rate: number], whole: [batch: number, rate: number]): PresetRuns {
  const common = { length: LENGTH, warmUp: 0.01 };
  return {
    layerDistillation: { ...common, batchSize: layers[0], learningRate: layers[1], tokens: ILD_SHARE * tokens },
    // The reference divides its loss by sequences only and clips to 1: per token, clip and ε are `length` times smaller.
    distillation: {
      ...common,
      batchSize: whole[0],
      learningRate: whole[1],
      tokens,
      maxGradientNorm: 1 / LENGTH,
      epsilon: 1e-8 / LENGTH,
    },
    preferenceTuning: {
      beta: 0.01,
      learningRate: 5e-7,
      warmUp: 0.1,
      batchSize: 32,
      maxPromptLength: 512,
      maxLength: 1024,
    },
  };
}

/**
 * The published runs (arXiv 2505.17272). The recipes of `@zebra/distill` and `@zebra/dpo` carry the same numbers as
 * their defaults; this package depends on neither, so an integration test holds the two together.
 */
export const PUBLISHED_RUNS: Readonly<Record<PresetSize, PresetRuns>> = {
  '1B': runs(5.4e9, [96, 2e-4], [192, 8e-5]),
  '3B': runs(7.4e9, [96, 2e-4], [96, 4e-5]),
  '8B': runs(9.4e9, [48, 1e-4], [64, 4e-5]),
};
