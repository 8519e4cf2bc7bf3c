import { absolute, cosineSchedule, divide, mean, scale, shift, split, type Tensor } from '@zebra/tensor';
import type { CausalLM } from '@zebra/tensor/nn';
import { type BatchTensors, type StepMetrics, type TrainOptions, type TrainResult, train } from '@zebra/tensor/train';
import { type ReferenceLogProbabilities, scorePairs, sequenceLogProbabilities } from './log-probabilities.js';
import { pairBatches } from './pair-source.js';
import type { PairLimits, PreferencePair } from './pairs.js';
import { preferenceLoss, preferenceMargins } from './preference-loss.js';

/** Options of {@link tunePreferences}. */
export interface TunePreferencesOptions
  extends Omit<TrainOptions, 'device' | 'parameters' | 'loss' | 'data' | 'steps' | 'learningRate'>,
    PairLimits {
  /** Trained in place. As it stands when the run begins it is the reference too, unless `references` are given. */
  readonly policy: CausalLM;
  readonly pairs: readonly PreferencePair[];
  /** Of the order of the pairs; any integer. */
  readonly seed: number;
  /**
   * Log-probabilities of the pairs under the frozen reference, as `scorePairs()` gives them. Default: computed from the
   * policy before the first step. Give them when a run is resumed from a policy that has been trained already.
   */
  readonly references?: readonly ReferenceLogProbabilities[];
  /** β: how strongly the policy is held to the reference. Default 0.01. */
  readonly beta?: number;
  /** Pairs a batch. Default 32. */
  readonly batchSize?: number;
  /** Default: one epoch, the last batch filled up from the next. */
  readonly steps?: number;
  /** Peak learning rate. Default 5e-7; small models want larger ones. */
  readonly learningRate?: number;
  /** Share of the steps (below 1) or number of steps that warm up, where no `schedule` is given. Default 0.1. */
  readonly warmUp?: number;
  /** What is trained, by name. Default: every parameter of the policy. */
  readonly parameters?: ReadonlyMap<string, Tensor>;
}

/** The published run of Zebra-Llama (arXiv 2505.17272): one epoch with a cosine after 10% warm-up. */
export const PUBLISHED_PREFERENCE_TUNING = {
  beta: 0.01,
  learningRate: 5e-7,
  warmUp: 0.1,
  batchSize: 32,
  maxPromptLength: 512,
  maxLength: 1024,
} as const;

/**
 * Direct preference optimization as a training run: the policy learns to prefer each pair's chosen response, held to a
 * frozen reference by β (see `preferenceLoss()`). The reference's log-probabilities are computed once, so that no
 * second model is in memory. Defaults are the published ones ({@link PUBLISHED_PREFERENCE_TUNING}); gradients are
 * clipped to norm 1.
 *
 * Beside the loss every step reports, as means over its pairs, `reward` (β times the margin over the reference, in
 * nats) and `accuracy` (share with a positive margin; a margin of exactly 0 counts half).
 *
 * @returns one value a step, as `train()` does; nothing happens until it is iterated
 * @throws ZebraError as `train()`, `scorePairs()` and `pairBatches()` do
 */
export async function* tunePreferences(
  options: TunePreferencesOptions,
): AsyncGenerator<StepMetrics, TrainResult, void> {
  const { policy, pairs, seed, references, parameters = policy.namedParameters(), ...given } = options;
  const { beta, batchSize, learningRate, warmUp, schedule, optimizer, ...rest } = {
    ...PUBLISHED_PREFERENCE_TUNING,
    ...defined(given),
  };
  const known = references ?? (await scorePairs(policy, pairs, { ...rest, batchSize }));
  const steps = options.steps ?? Math.ceil(pairs.length / batchSize);
  return yield* train({
    ...rest,
    device: policy.device,
    parameters,
    data: pairBatches(pairs, known, { ...rest, batchSize, seed }),
    steps,
    learningRate,
    // An impossible number of steps is left to train() to report.
    schedule: schedule ?? (steps >= 1 ? cosineSchedule({ steps, warmUp }) : undefined),
    optimizer: { maxGradientNorm: 1, ...optimizer },
    loss: (batch) => stepLoss(policy, batch, beta),
  });
}

function stepLoss(
  policy: CausalLM,
  batch: BatchTensors,
  beta: number,
): { loss: Tensor; reward: Tensor; accuracy: Tensor } {
  const [ids, targets, positions, segments] = ['ids', 'targets', 'positions', 'segments'].map((name) => batch[name]!);
  const referenceChosen = batch.referenceChosen!;
  const count = referenceChosen.size;
  const logs = sequenceLogProbabilities(policy, {
    ids: ids!,
    targets: targets!,
    positions: positions!,
    segments: segments!,
  });
  const [policyChosen, policyRejected] = split(logs, 0, [count, count]);
  const all = {
    policyChosen: policyChosen!,
    policyRejected: policyRejected!,
    referenceChosen,
    referenceRejected: batch.referenceRejected!,
  };
  const loss = preferenceLoss(all, { beta });
  const margins = preferenceMargins(all);
  return { loss, reward: scale(mean(margins), beta), accuracy: mean(positive(margins)) };
}

/** 1 where x is above 0, 0 below, ½ at 0. */
function positive(x: Tensor): Tensor {
  // Smaller than any margin of float32 log-probabilities.
  const sign = divide(x, shift(absolute(x), 1e-30));
  return scale(shift(sign, 1), 0.5);
}

/** The entries that are not undefined, so that an option given as undefined takes its default. */
function defined<T extends object>(options: T): T {
  return Object.fromEntries(Object.entries(options).filter(([, value]) => value !== undefined)) as T;
}
