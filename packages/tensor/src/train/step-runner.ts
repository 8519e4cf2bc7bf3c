import { empty, tensor, zeros } from '../core/create.js';
import { valueAndGradients } from '../core/gradients.js';
import { keep, scope, visitTensors } from '../core/scope.js';
import { showShape, type TensorSpec } from '../core/shape.js';
import type { ReadData, Tensor } from '../core/tensor.js';
import type { Device, Program } from '../device/device.js';
import { defineKernel, linearMain } from '../device/kernel.js';
import { ZebraError } from '../errors.js';
import type { AdamW, LossScale } from '../optim/index.js';
import type { Batch } from './batch-source.js';

/** The tensors of a batch, by the names of the source's specs. They stay the trainer's. */
export type BatchTensors = Readonly<Record<string, Tensor>>;

/**
 * The loss of a batch: a tensor of one element, or an object with it as `loss` and further tensors of one element to be
 * reported. What it returns must be made by it and is freed by the trainer.
 */
export type LossFunction = (
  batch: BatchTensors,
) => Tensor | ({ readonly loss: Tensor } & Readonly<Record<string, Tensor>>);

/** What a step runner is made of. */
export interface StepRunnerOptions {
  readonly device: Device;
  readonly parameters: ReadonlyMap<string, Tensor>;
  readonly optimizer: AdamW;
  /** The optimizer's. */
  readonly lossScale: LossScale | undefined;
  readonly loss: LossFunction;
  readonly specs: Readonly<Record<string, TensorSpec>>;
  readonly accumulate: number;
  readonly record: boolean;
}

/** The numbers of one step, as the device gives them. */
export interface StepReading {
  readonly loss: number;
  readonly gradientNorm: number;
  /** The loss scale of this step, and steps skipped so far; 1 and 0 without a scale. */
  readonly lossScale: number;
  readonly skippedSteps: number;
  readonly others: Readonly<Record<string, number>>;
}

/**
 * float32 slots for what a step reports: the loss, what begins the optimizer's status (norm, loss scale, skipped
 * steps), the loss function's own metrics.
 */
const SLOTS = 64;
const LOSS_SLOT = 0;
const NORM_SLOT = 1;
const STATUS_SLOTS = 3;
const FIRST_METRIC = NORM_SLOT + STATUS_SLOTS;

/**
 * The device's side of training: batch tensors that are rewritten, and the micro-step (forward, backward, sum of the
 * gradients) and the update, each captured at its first use and replayed, or run eagerly.
 */
export class StepRunner {
  private readonly options: StepRunnerOptions;
  private readonly batch: Readonly<Record<string, Tensor>>;
  private readonly readings: Tensor;
  /** Sums of gradients over the micro-steps of a step; none where a step is one micro-step. */
  private readonly sums = new Map<string, Tensor>();
  private metricNames: readonly string[] = [];
  private microProgram: Program<void> | undefined;
  private updateProgram: Program<void> | undefined;
  private readonly reached = new Set<string>();
  private disposed = false;

  constructor(options: StepRunnerOptions) {
    this.options = options;
    const { device, parameters, specs, accumulate } = options;
    const batch: Record<string, Tensor> = {};
    this.batch = batch;
    this.readings = keep(tensor(device, new Float32Array(SLOTS)));
    try {
      for (const [name, { shape, dtype }] of Object.entries(specs)) batch[name] = keep(empty(device, shape, { dtype }));
      if (accumulate > 1) {
        for (const [name, { shape }] of parameters) this.sums.set(name, keep(zeros(device, shape)));
      }
    } catch (error) {
      this.dispose();
      throw error;
    }
  }

  /** Parameters that the loss does not depend on, as far as steps have run. */
  get untouched(): string[] {
    return [...this.options.parameters.keys()].filter((name) => !this.reached.has(name));
  }

  /** The runner's own tensors, by what they are for. */
  tensors(): { readonly gradients: ReadonlyMap<string, Tensor>; readonly batch: ReadonlyMap<string, Tensor> } {
    return { gradients: this.sums, batch: new Map(Object.entries(this.batch)) };
  }

  /** Queues one step and gives its numbers when they are there; the device may be given the next step meanwhile. */
  run(draw: () => Batch, learningRate: number): Promise<StepReading> {
    const { accumulate, optimizer } = this.options;
    this.readings.write(new Float32Array(SLOTS));
    optimizer.prepare(learningRate);
    for (let i = 0; i < accumulate; i++) {
      this.feed(draw());
      this.microStep();
    }
    if (accumulate > 1) this.update();
    return this.readings.read().then((values) => this.interpret(values));
  }

  dispose(): void {
    if (this.disposed) return;
    this.disposed = true;
    this.microProgram?.dispose();
    this.updateProgram?.dispose();
    for (const owned of [this.readings, ...Object.values(this.batch), ...this.sums.values()]) owned.dispose();
  }

  private interpret(values: ReadData): StepReading {
    return {
      loss: values[LOSS_SLOT]!,
      gradientNorm: values[NORM_SLOT]!,
      lossScale: values[NORM_SLOT + 1]!,
      skippedSteps: values[NORM_SLOT + 2]!,
      others: Object.fromEntries(this.metricNames.map((name, index) => [name, values[FIRST_METRIC + index]!])),
    };
  }

  private feed(batch: Batch): void {
    for (const name of Object.keys(batch)) {
      if (!this.batch[name]) {
        throw new ZebraError('data', `train: the data source gave ${name}, which its specs do not name`);
      }
    }
    for (const [name, target] of Object.entries(this.batch)) {
      const values = batch[name];
      if (values?.length !== target.size) {
        throw new ZebraError(
          'data',
          `train: the data source's specs promise ${name} of shape ${showShape(target.shape)}, its batch has ${values ? `${values.length} values` : 'none'}`,
        );
      }
      target.write(values);
    }
  }

  private microStep(): void {
    const { device, record } = this.options;
    if (!record) {
      scope(() => this.traceMicroStep());
      return;
    }
    this.microProgram ??= device.capture(() => this.traceMicroStep());
    this.microProgram.run();
  }

  private update(): void {
    const { device, record } = this.options;
    if (!record) {
      scope(() => this.traceUpdate());
      return;
    }
    this.updateProgram ??= device.capture(() => this.traceUpdate());
    this.updateProgram.run();
  }

  private traceMicroStep(): void {
    const { parameters, optimizer, accumulate, loss, lossScale } = this.options;
    const names = [...parameters.keys()];
    const seed = lossScale && { seed: lossScale.seed };
    const { value, gradients } = valueAndGradients(() => loss(this.batch), [...parameters.values()], seed);
    try {
      this.report(value);
      const present = new Map<string, Tensor>();
      gradients.forEach((gradient, index) => {
        if (gradient) present.set(names[index]!, gradient);
      });
      if (present.size === 0) {
        throw new ZebraError(
          'argument',
          'train: the loss depends on none of the parameters. Compute it from the very tensors given as `parameters`.',
        );
      }
      for (const name of present.keys()) this.reached.add(name);
      if (accumulate === 1) this.apply(optimizer, present);
      else for (const [name, gradient] of present) addInto(this.sums.get(name)!, gradient, 1 / accumulate);
    } finally {
      for (const gradient of gradients) gradient?.dispose();
      visitTensors(value, (made) => made.dispose());
    }
  }

  private traceUpdate(): void {
    const touched = new Map([...this.sums].filter(([name]) => this.reached.has(name)));
    this.apply(this.options.optimizer, touched);
    for (const sum of touched.values()) this.options.device.clear(sum.range());
  }

  private apply(optimizer: AdamW, gradients: ReadonlyMap<string, Tensor>): void {
    optimizer.apply(gradients);
    addInto(this.readings, optimizer.gradientNorm, 1, NORM_SLOT, STATUS_SLOTS);
  }

  private report(value: Tensor | ({ readonly loss: Tensor } & Readonly<Record<string, Tensor>>)): void {
    const { accumulate } = this.options;
    const isTensor = 'dtype' in value && 'storage' in value;
    const loss = isTensor ? (value as Tensor) : value.loss;
    const others = isTensor ? [] : Object.entries(value as Record<string, Tensor>).filter(([name]) => name !== 'loss');
    const names = others.map(([name]) => name);
    if (names.length > SLOTS - FIRST_METRIC) {
      throw new ZebraError('argument', `train: the loss gives ${names.length} metrics; ${SLOTS - FIRST_METRIC} fit`);
    }
    this.metricNames = names;
    addInto(this.readings, loss, 1 / accumulate, LOSS_SLOT);
    others.forEach(([name, metric], index) => {
      if (metric.size !== 1) {
        throw new ZebraError(
          'shape',
          `train: the metric ${name} must be one element, got shape ${showShape(metric.shape)}`,
        );
      }
      addInto(this.readings, metric, 1 / accumulate, FIRST_METRIC + index);
    });
  }
}

/** sum[first + i] += factor · x[i]. */
function addInto(sum: Tensor, x: Tensor, factor: number, first = 0, count = x.size): void {
  sum.device.dispatch(addIntoKernel, {
    bindings: { x: x.range(), sum: sum.range() },
    params: { count, first, factor },
    groups: Math.ceil(count / sum.device.workgroupOf(addIntoKernel)),
  });
}

const addIntoKernel = defineKernel({
  name: 'add_into',
  bindings: { x: 'read', sum: 'write' },
  params: { count: 'u32', first: 'u32', factor: 'f32' },
  source: () => linearMain('p.count', '  sum[p.first + i] += p.factor * f32(x[i]);'),
});
