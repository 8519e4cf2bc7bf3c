import { type MemoryReport, memoryReport } from '../device/memory-report.js';
import { ZebraError } from '../errors.js';
import { AdamW, constantSchedule, LossScale } from '../optim/index.js';
import type { Batch } from './batch-source.js';
import { restoreCheckpoint, saveCheckpoint } from './checkpoint.js';
import { type StepReading, StepRunner } from './step-runner.js';
import { assertCheckpointFolder, assertOptions, type TrainOptions } from './train-options.js';

/** What is known of one step. */
export interface StepMetrics {
  /** Steps done, this one included: the first step is 1. */
  readonly step: number;
  /** Mean over the step's batches. */
  readonly loss: number;
  /** Global norm before clipping; not finite in a step that was skipped. */
  readonly gradientNorm: number;
  /** The loss scale that the step ran with, where there is one. */
  readonly lossScale?: number;
  /** Steps skipped so far because gradients overflowed, this one included, where there is a loss scale. */
  readonly skippedSteps?: number;
  readonly learningRate: number;
  /** Tokens that counted in the step's loss, where the data source tells. */
  readonly tokens?: number;
  /** From the end of the step before (or this one's begin, where that is later) to its end. The first one compiles. */
  readonly seconds: number;
  readonly tokensPerSecond?: number;
  /** GPU memory in use on the device. */
  readonly memoryBytes: number;
  /** The loss function's further metrics, means over the step's batches. */
  readonly metrics?: Readonly<Record<string, number>>;
  /** What `evaluate.run` gave after this step. */
  readonly evaluation?: Readonly<Record<string, number>>;
}

/** What a finished run gives. */
export interface TrainResult {
  readonly steps: number;
  /** Loss of the last step; undefined where there was none left to do. */
  readonly loss?: number;
  /** Tokens that counted, over the whole run. */
  readonly tokens: number;
  /** Parameters that the loss does not depend on: they were left as they were. */
  readonly untouched: readonly string[];
  /** The last checkpoint, where one was asked for. */
  readonly checkpoint?: string;
  /**
   * What took the device's memory at the end of the run: `weights`, `optimizer`, `gradients` (their sums over several
   * batches), `batch`, the `workspace` of the recorded programs (activations, gradients, scratch), and `other`.
   */
  readonly memory: MemoryReport;
}

/**
 * Trains parameters with AdamW, one step for each value it yields; nothing happens until it is iterated.
 *
 * The numbers of a step are read while the device already works on the next one, so a consumer that stops iterating
 * early finds the parameters up to one step ahead of the last metrics. However the iteration ends, everything the run
 * allocated is freed. The same seed, device and options give the same losses bit for bit, recorded or not, interrupted
 * and resumed or not.
 *
 * @example
 * for await (const { step, loss } of train({ device, parameters, loss, data, steps: 100, learningRate: 1e-3 })) {
 *   show(step, loss);
 * }
 * @throws ZebraError `argument`, `dtype` for impossible options; `data` when loss or gradients stay without a finite
 *   value, or on resuming with other data; `format` on resuming with other parameters; `io` for a missing checkpoint,
 *   or one that would be overwritten; what the loss, the source, the evaluation and the disk throw
 */
export async function* train(options: TrainOptions): AsyncGenerator<StepMetrics, TrainResult, void> {
  assertOptions(options);
  await assertCheckpointFolder(options);
  const run = new TrainingRun(options);
  try {
    await run.resume();
    return yield* run.steps();
  } finally {
    await run.dispose();
  }
}

/** A step whose numbers are not read yet. */
interface PendingStep {
  readonly step: number;
  readonly learningRate: number;
  readonly tokens: number | undefined;
  readonly begun: number;
  readonly reading: Promise<{ readonly values: StepReading; readonly done: number }>;
}

class TrainingRun {
  private readonly options: TrainOptions;
  private readonly optimizer: AdamW;
  private readonly runner: StepRunner;
  private readonly lossScale: LossScale | undefined;
  private pending: PendingStep | undefined;
  private step = 0;
  private tokens = 0;
  private nonFinite = 0;
  private lastDone = 0;
  private lastLoss: number | undefined;
  private saved: { readonly step: number; readonly path: string } | undefined;

  constructor(options: TrainOptions) {
    this.options = options;
    const { device, parameters, loss, data, accumulate = 1, record = true } = options;
    this.lossScale = lossScaleOf(options);
    const { lossScale } = this;
    let optimizer: AdamW | undefined;
    try {
      optimizer = new AdamW(parameters, { ...options.optimizer, ...(lossScale && { lossScale }) });
      const { specs } = data;
      this.runner = new StepRunner({ device, parameters, optimizer, lossScale, loss, specs, accumulate, record });
    } catch (error) {
      optimizer?.dispose();
      lossScale?.dispose();
      throw error;
    }
    this.optimizer = optimizer;
  }

  async resume(): Promise<void> {
    const { resume, checkpoint, data, parameters } = this.options;
    if (!resume) return;
    const from = resume === true ? checkpoint!.folder : resume;
    const state = await restoreCheckpoint(from, { parameters, optimizer: this.optimizer }, (saved) =>
      data.restore(saved.data),
    );
    this.step = state.step;
    this.tokens = state.tokens;
    this.nonFinite = state.nonFinite;
    if (state.lossScale) this.lossScale?.write(state.lossScale);
  }

  async *steps(): AsyncGenerator<StepMetrics, TrainResult, void> {
    const { steps, signal } = this.options;
    while (this.step < steps) {
      if (signal?.aborted) {
        const last = await this.finish();
        if (last) yield last;
        this.assertFinite();
        await this.save();
        throw signal.reason;
      }
      const before = this.pending;
      this.pending = this.begin();
      if (before) yield await this.read(before);
      this.assertFinite();
      const last = this.step === steps;
      const { evaluate, checkpoint } = this.options;
      const evaluates = evaluate && (last || this.step % evaluate.every === 0);
      const saves = checkpoint && (last || this.step % checkpoint.every === 0);
      if (!last && !evaluates && !saves) continue;
      const metrics = await this.finish();
      // A checkpoint of a run that is about to give up would only make it give up again.
      const evaluation = evaluates && !this.diverged ? await evaluate.run() : undefined;
      if (saves && !this.diverged) await this.save();
      if (metrics) yield evaluation ? { ...metrics, evaluation } : metrics;
      this.assertFinite();
    }
    return {
      steps: this.step,
      ...(this.lastLoss !== undefined && { loss: this.lastLoss }),
      tokens: this.tokens,
      untouched: this.lastLoss === undefined ? [] : this.runner.untouched,
      ...(this.saved && { checkpoint: this.saved.path }),
      memory: this.memory(),
    };
  }

  private memory(): MemoryReport {
    const { device, parameters } = this.options;
    return memoryReport(device, {
      weights: parameters,
      optimizer: this.optimizer.state(),
      ...this.runner.tensors(),
    });
  }

  async dispose(): Promise<void> {
    await this.pending?.reading.catch(() => undefined);
    this.runner.dispose();
    this.optimizer.dispose();
    this.lossScale?.dispose();
  }

  /** Queues the next step. */
  private begin(): PendingStep {
    const { data, learningRate, schedule = constantSchedule() } = this.options;
    const begun = performance.now();
    const rate = learningRate * schedule(this.step);
    if (!Number.isFinite(rate)) {
      throw new ZebraError('argument', `train: the schedule gives the learning rate ${rate} at step ${this.step}`);
    }
    let tokens: number | undefined;
    const draw = (): Batch => {
      const batch = data.next();
      if (data.tokensIn) tokens = (tokens ?? 0) + data.tokensIn(batch);
      return batch;
    };
    const reading = this.runner.run(draw, rate).then((values) => ({ values, done: performance.now() }));
    // Awaited later, or never where the consumer leaves: not to be reported as unhandled meanwhile.
    reading.catch(() => undefined);
    return { step: ++this.step, learningRate: rate, tokens, begun, reading };
  }

  /** The numbers of the step that is still out. */
  private async finish(): Promise<StepMetrics | undefined> {
    const { pending } = this;
    if (!pending) return undefined;
    const metrics = await this.read(pending);
    this.pending = undefined;
    return metrics;
  }

  private async read({ step, learningRate, tokens, begun, reading }: PendingStep): Promise<StepMetrics> {
    const { values, done } = await reading;
    const seconds = Math.max(0, done - Math.max(begun, this.lastDone)) / 1000;
    this.lastDone = done;
    this.lastLoss = values.loss;
    this.tokens += tokens ?? 0;
    this.count(values);
    return {
      step,
      loss: values.loss,
      gradientNorm: values.gradientNorm,
      ...(this.lossScale && { lossScale: values.lossScale, skippedSteps: values.skippedSteps }),
      learningRate,
      ...(tokens !== undefined && { tokens }),
      seconds,
      ...(tokens !== undefined && seconds > 0 && { tokensPerSecond: tokens / seconds }),
      memoryBytes: this.options.device.statistics().liveBytes,
      ...(Object.keys(values.others).length > 0 && { metrics: values.others }),
    };
  }

  /** Counts steps in a row without finite numbers, but for overflows that a falling loss scale takes care of. */
  private count({ loss, gradientNorm, lossScale }: StepReading): void {
    const handled = Number.isFinite(loss) && this.lossScale && lossScale > this.lossScale.options.minimum;
    if (Number.isFinite(loss) && Number.isFinite(gradientNorm)) this.nonFinite = 0;
    else if (!handled) this.nonFinite++;
  }

  private get diverged(): boolean {
    return this.nonFinite >= (this.options.maxNonFiniteSteps ?? 3);
  }

  private assertFinite(): void {
    if (!this.diverged) return;
    const last = this.pending ? this.step - 1 : this.step;
    throw new ZebraError(
      'data',
      `train: loss or gradients were not finite in ${this.nonFinite} steps in a row, up to step ${last}. Lower the learning rate, clip the gradients (optimizer.maxGradientNorm), or look at the data of that step.`,
    );
  }

  /** Saves the state after the last step; its numbers must have been read. */
  private async save(): Promise<void> {
    const { checkpoint, parameters, data } = this.options;
    if (!checkpoint || this.step === 0 || this.saved?.step === this.step) return;
    const { step, tokens, nonFinite } = this;
    const state = data.state();
    const lossScale = await this.lossScale?.read();
    const path = await saveCheckpoint(
      checkpoint.folder,
      { parameters, optimizer: this.optimizer },
      { step, tokens, nonFinite, data: state, ...(lossScale && { lossScale }) },
      { keep: checkpoint.keep },
    );
    this.saved = { step, path };
  }
}

function lossScaleOf({ device, lossScale }: TrainOptions): LossScale | undefined {
  if (lossScale === undefined) return undefined;
  return typeof lossScale === 'number' ? LossScale.fixed(device, lossScale) : new LossScale(device, lossScale);
}
