import type { CacheReport } from '@zebra/runtime';
import type { StageName, TrainingStage } from './budget.js';
import type { MlaChoice } from './students.js';

/** `out/demo/report.json`. Losses and divergences are in nats a token, times in seconds, sizes in bytes. */
export interface DemoReport {
  /** Of this layout; it changes when a field changes its meaning. */
  readonly schema: 1;
  /** ISO time at which the run began. */
  readonly startedAt: string;
  /** Seconds of the whole run, from opening the device to writing this file. */
  readonly seconds: number;
  /** Seconds of each part of the run. */
  readonly parts: Readonly<Partial<Record<StageName, number>>>;
  readonly versions: {
    readonly zebra: string;
    readonly node: string;
    /** As `linux-x64`. */
    readonly platform: string;
  };
  /** What ran: the adapter as WebGPU describes it. */
  readonly adapter: {
    readonly vendor: string;
    readonly architecture: string;
    readonly description: string;
    /** The adapter is a software one on CPU cores. */
    readonly software: boolean;
    /** Tokens a second of the teacher's forward pass with its loss, which the sizes of the run were chosen by. */
    readonly forwardTokensPerSecond: number;
  };
  /** Of everything random; the same seed, steps and adapter give the same numbers. */
  readonly seed: number;
  readonly recipe: {
    /** `fitted` to the time, or `full`. */
    readonly name: 'fitted' | 'full';
    /** Seconds that the run was to take. */
    readonly budgetSeconds: number;
    /** Tokens of a training row. */
    readonly rowLength: number;
    /** Weight of the mixers' outputs in intermediate-layer distillation. */
    readonly mixerWeight: number;
    /** Tokens that could be trained on. */
    readonly trainTokens: number;
    /** Held-out tokens that SMART scores were taken on. */
    readonly calibrationTokens: number;
    /** Step counts as `--steps` takes them, to repeat this run. */
    readonly steps: string;
  };
  readonly teacher: { readonly folder: string; readonly parameters: number; readonly layers: number };
  readonly hybrid: {
    /** The checkpoint of the tuned model. */
    readonly folder: string;
    readonly parameters: number;
    readonly mla: MlaChoice & { readonly sharedRopeKey: 'mean' | 'aligned' };
  };
  readonly stages: readonly StageReport[];
  /** Validation losses, all on the same tokens. */
  readonly losses: LossReport;
  readonly gap: GapReport;
  /** With float16 values, as published figures have them. */
  readonly cache: CacheReport & {
    /** Bytes of the teacher's and of the hybrid's cache after so many tokens, the hybrid's states included. */
    readonly contexts: readonly {
      readonly tokens: number;
      readonly teacherBytes: number;
      readonly hybridBytes: number;
    }[];
  };
  readonly smart: SmartReport;
  readonly preferences: PreferenceReport;
  /** Tokens a second when one row is decoded, greedily, after `context` tokens. */
  readonly decoding: {
    readonly context: number;
    readonly tokens: number;
    readonly teacherTokensPerSecond: number;
    readonly hybridTokensPerSecond: number;
  };
  readonly samples: SampleReport;
  /** Paths of what else was written, relative to this file. */
  readonly files: {
    readonly checkpoint: string;
    readonly plots: readonly string[];
    readonly metrics: readonly string[];
  };
}

/** One training stage. */
export interface StageReport {
  readonly stage: TrainingStage;
  /** Steps done. */
  readonly steps: number;
  /** Steps that were to be done; more than `steps` where the machine slowed down and the stage ended early. */
  readonly plannedSteps: number;
  /** Rows a step; for `preferences`: pairs. */
  readonly batchSize: number;
  /** Peak learning rate. */
  readonly learningRate: number;
  /** Tokens that counted in the losses. */
  readonly tokens: number;
  /** Seconds of all steps together. */
  readonly seconds: number;
  /** Seconds of one step as measured before, which the number of steps was chosen by; null for fixed steps. */
  readonly measuredStepSeconds: number | null;
  readonly tokensPerSecond: number;
  /** The training loss: of ILD the sum over layers of distances, of distillation the KL divergence, of DPO its loss. */
  readonly curve: readonly { readonly step: number; readonly loss: number }[];
}

/** Validation losses: mean −log p of the next token, in nats. */
export interface LossReport {
  readonly validationTokens: number;
  readonly teacher: number;
  /** Each right after initialisation, before any training. The composed one has the placement found later. */
  readonly initial: { readonly mla: number; readonly mamba2: number; readonly composed: number };
  /** After intermediate-layer distillation. */
  readonly mla: number;
  readonly mamba2: number;
  readonly composed: number;
  /** After end-to-end distillation. */
  readonly distilled: number;
  /** After DPO: the model that is saved. */
  readonly tuned: number;
  /** The committed hybrid of the full recipe; null where there is none. */
  readonly committed: number | null;
}

/** The gap: the loss of the composed model right after initialisation, minus the teacher's. */
export interface GapReport {
  readonly nats: number;
  /** Share of the gap closed after each stage, 1 being the teacher's loss. */
  readonly closed: { readonly composed: number; readonly distilled: number; readonly tuned: number };
  /** Share that distillation is to close on this kind of adapter, and whether it did. */
  readonly target: number;
  readonly reached: boolean;
}

/** SMART: sensitivity scores and the placement that they gave. */
export interface SmartReport {
  /** KL(teacher‖all-Mamba2) − KL(teacher‖all-Mamba2 with layer i from the all-MLA student), one a layer. */
  readonly scores: readonly number[];
  /** KL(teacher‖all-Mamba2). */
  readonly baseDivergence: number;
  /** The layers that are MLA, ascending. */
  readonly placement: readonly number[];
}

/** DPO on sentences against wrong versions of them. */
export interface PreferenceReport {
  readonly trainPairs: number;
  readonly evaluationPairs: number;
  readonly beta: number;
  readonly before: PreferenceScores;
  readonly after: PreferenceScores;
  /** Mean over evaluation pairs of β[(log π/ref)(chosen) − (log π/ref)(rejected)], the model before DPO being ref. */
  readonly reward: number;
  /** Share of evaluation pairs whose reward is positive. */
  readonly rewardAccuracy: number;
}

/** On the evaluation pairs. */
interface PreferenceScores {
  /** Share of pairs with log π(chosen) > log π(rejected). */
  readonly accuracy: number;
  /** The same by log π a token. */
  readonly accuracyPerToken: number;
  /** Mean of log π(chosen) − log π(rejected). */
  readonly margin: number;
}

/** Texts that begin with the prompt, all drawn with the same seed. */
interface SampleReport {
  readonly prompt: string;
  readonly temperature: number;
  readonly teacher: string;
  readonly hybrid: string;
  /** Of the committed hybrid; null where there is none. */
  readonly committed: string | null;
}

/** Share of the gap that distillation is to close. */
export function gapTarget(
  adapter: { readonly software: boolean; readonly description: string },
  full: boolean,
): number {
  if (full) return 0.95;
  return /swiftshader/i.test(adapter.description) ? 0.25 : 0.5;
}

/** The gap and what became of it. */
export function gapReport(losses: LossReport, target: number): GapReport {
  const nats = losses.initial.composed - losses.teacher;
  const closed = (loss: number) => (losses.initial.composed - loss) / nats;
  const after = { composed: closed(losses.composed), distilled: closed(losses.distilled), tuned: closed(losses.tuned) };
  return { nats, closed: after, target, reached: after.distilled >= target };
}
