import { elementCount } from '../core/shape.js';
import type { Tensor } from '../core/tensor.js';
import type { Device } from '../device/device.js';
import { ZebraError } from '../errors.js';
import { nodeFs, nodePath } from '../node-modules.js';
import type { AdamWOptions, LossScaleOptions, Schedule } from '../optim/index.js';
import type { BatchSource } from './batch-source.js';
import { hasCheckpoint } from './checkpoint.js';
import { assertCount } from './corpus.js';
import type { LossFunction } from './step-runner.js';

/** Options of `train()`. */
export interface TrainOptions {
  readonly device: Device;
  /** What is trained, by name: float32, changed in place. They stay the caller's. */
  readonly parameters: ReadonlyMap<string, Tensor>;
  /**
   * The loss of one batch. Called once while it is recorded (so what it uploads must be made before), or once a
   * micro-step with `record: false`.
   */
  readonly loss: LossFunction;
  readonly data: BatchSource;
  /** Steps of the whole run, those before a resume included. */
  readonly steps: number;
  /** Peak learning rate. */
  readonly learningRate: number;
  /** Factor on the learning rate by steps done. Default: constant. */
  readonly schedule?: Schedule;
  readonly optimizer?: Omit<AdamWOptions, 'lossScale'>;
  /**
   * Scale of the loss's gradient, for models that compute in float16: options of a dynamic scale (`{}` for the
   * defaults: 65536, halved where a step overflows, which is then skipped, doubled after 2000 good steps), or a number
   * for a fixed one. Default: none, as float32 models want it.
   */
  readonly lossScale?: number | LossScaleOptions;
  /** Batches a step; their gradients and losses are averaged. Default 1. */
  readonly accumulate?: number;
  /** Capture a step once and replay it. Default true; false runs every operation anew, for debugging. */
  readonly record?: boolean;
  /** Runs after every `every` steps and after the last; its numbers go into that step's metrics. */
  readonly evaluate?: EvaluateOptions;
  /** Saves after every `every` steps, after the last, and on an abort. */
  readonly checkpoint?: CheckpointOptions;
  /** Go on from a checkpoint: that of `checkpoint.folder` (true), or of another folder or file. Default false. */
  readonly resume?: boolean | string;
  /** Ends the run after the step at hand, with a checkpoint where there is a folder for it, by throwing its reason. */
  readonly signal?: AbortSignal;
  /**
   * Steps in a row with a loss or gradient that is not finite (they change no parameter) before giving up. Overflows that
   * a dynamic loss scale answers by falling do not count until it is at its minimum. Default 3.
   */
  readonly maxNonFiniteSteps?: number;
}

/** When and how a run is evaluated. */
export interface EvaluateOptions {
  readonly every: number;
  readonly run: () => Promise<Readonly<Record<string, number>>>;
}

/** Where and when a run is saved. */
export interface CheckpointOptions {
  /** Made where it is missing. */
  readonly folder: string;
  readonly every: number;
  /** Checkpoints to keep under a numbered name too. Default 0: only the newest. */
  readonly keep?: number;
  /** Let a run that does not resume replace a checkpoint that is there already. Default false: that is an error. */
  readonly overwrite?: boolean;
}

/** Throws for options that no run could be made with. */
export function assertOptions(options: TrainOptions): void {
  const { device, parameters, data, steps, learningRate, accumulate = 1, evaluate, checkpoint, resume } = options;
  assertCount('train', 'steps', steps);
  assertCount('train', 'accumulate', accumulate);
  if (evaluate) assertCount('train', 'evaluate.every', evaluate.every);
  if (checkpoint) assertCount('train', 'checkpoint.every', checkpoint.every);
  if (checkpoint) assertCount('train', 'checkpoint.keep', checkpoint.keep ?? 0, 0);
  assertCount('train', 'maxNonFiniteSteps', options.maxNonFiniteSteps ?? 3);
  if (!(learningRate >= 0 && Number.isFinite(learningRate))) {
    throw new ZebraError('argument', `train: learningRate must be a number of at least 0, got ${learningRate}`);
  }
  if (resume === true && !checkpoint) {
    throw new ZebraError('argument', 'train: resume is true, but there is no checkpoint.folder to resume from');
  }
  if (parameters.size === 0) throw new ZebraError('argument', 'train: no parameters given');
  const names = new Map<number, string>();
  for (const [name, { id, dtype, device: own }] of parameters) {
    if (dtype !== 'float32') {
      throw new ZebraError('dtype', `train: ${name} is ${dtype}; what is trained must be float32`);
    }
    if (own !== device) throw new ZebraError('device', `train: ${name} lies on another device`);
    const twin = names.get(id);
    if (twin) {
      throw new ZebraError('argument', `train: ${name} and ${twin} are the same tensor. Name a tied parameter once.`);
    }
    names.set(id, name);
  }
  for (const [name, { shape }] of Object.entries(data.specs)) {
    if (!(elementCount(shape) >= 1)) throw new ZebraError('data', `train: the data source's ${name} has no elements`);
  }
}

/** Fails before the first step where the checkpoint could not be written, or would replace one of another run. */
export async function assertCheckpointFolder({ checkpoint, resume }: TrainOptions): Promise<void> {
  if (!checkpoint) return;
  const { folder, overwrite } = checkpoint;
  const { resolve, dirname } = await nodePath();
  const { access, constants, mkdir } = await nodeFs();
  const source = resume === true ? folder : resume && (resume.endsWith('.safetensors') ? dirname(resume) : resume);
  const continues = source && resolve(source) === resolve(folder);
  if (!continues && !overwrite && (await hasCheckpoint(folder))) {
    throw new ZebraError(
      'io',
      `train: ${folder} holds the checkpoint of another run. Pass resume: true to go on with it, checkpoint.overwrite: true to replace it, or another folder.`,
    );
  }
  try {
    await mkdir(folder, { recursive: true });
    await access(folder, constants.W_OK);
  } catch (cause) {
    throw new ZebraError('io', `train: checkpoints can't be written to ${folder}: ${String(cause)}`, { cause });
  }
}
