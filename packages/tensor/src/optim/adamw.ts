import { tensor, zeros } from '../core/create.js';
import { allocateTensor } from '../core/define-op.js';
import { keep, scope } from '../core/scope.js';
import { sameShape, showShape } from '../core/shape.js';
import type { Tensor } from '../core/tensor.js';
import type { Device } from '../device/device.js';
import { ZebraError } from '../errors.js';
import { LANES, takesVectors } from '../ops/pointwise/lanes.wgsl.js';
import { reduceInto } from '../ops/reduce/reduce-kernel.js';
import { rowGroups } from '../ops/row/row-lanes.wgsl.js';
import type { LossScale } from './loss-scale.js';
import { adamWKernel, clipKernel, NORM_BLOCK, STATUS_SIZE, scaledClipKernel, squaredNormKernel } from './optim.wgsl.js';

/** Options of {@link AdamW}. */
export interface AdamWOptions {
  /** β1 and β2. Default 0.9 and 0.95. */
  readonly betas?: readonly [number, number];
  /** ε, added to the root of the second moment. Default 1e-8. */
  readonly epsilon?: number;
  /** Decoupled weight decay. Default 0. */
  readonly weightDecay?: number;
  /** Which parameters decay. Default: all of them. */
  readonly decays?: (name: string, parameter: Tensor) => boolean;
  /** Largest global norm of the gradients; larger ones are scaled down to it. Default: no clipping. */
  readonly maxGradientNorm?: number;
  /**
   * The loss scale that gradients come with: they are divided by it, and a step whose gradients are not finite lowers
   * it. It stays the caller's. Default: none, gradients come as they are.
   */
  readonly lossScale?: LossScale;
}

/** Gradients by parameter name. Parameters without one are left alone. */
export type Gradients = ReadonlyMap<string, Tensor>;

/**
 * AdamW over float32 parameters, in place, with the global gradient norm and its clipping computed on the device.
 *
 * `prepare` writes what changes from step to step; `apply` only dispatches, so that it can be part of a recorded
 * program. `step` does both. A step whose gradient norm is not finite changes nothing but the step count; with a loss
 * scale it does not count in the bias corrections either.
 */
export class AdamW {
  /** Steps so far. */
  stepCount = 0;
  /**
   * float32 [6], of the last step: global norm of the (unscaled) gradients before clipping, the loss scale they came
   * with, steps skipped so far, the factor that they were multiplied with, and the two bias corrections.
   */
  readonly gradientNorm: Tensor;
  private readonly device: Device;
  private readonly parameters: ReadonlyMap<string, Tensor>;
  private readonly moments = new Map<string, { m: Tensor; v: Tensor }>();
  private readonly hyper: Tensor;
  private readonly options: Required<Omit<AdamWOptions, 'lossScale'>>;
  private readonly lossScale: LossScale | undefined;

  /**
   * @throws ZebraError `argument` without parameters, `dtype` for one that is not float32
   */
  constructor(parameters: ReadonlyMap<string, Tensor>, options: AdamWOptions = {}) {
    const first = parameters.values().next().value;
    if (!first) throw new ZebraError('argument', 'AdamW: no parameters given');
    for (const [name, parameter] of parameters) {
      if (parameter.dtype !== 'float32') {
        throw new ZebraError('dtype', `AdamW: ${name} is ${parameter.dtype}; master weights are float32`);
      }
    }
    this.device = first.device;
    this.parameters = parameters;
    this.options = {
      betas: options.betas ?? [0.9, 0.95],
      epsilon: options.epsilon ?? 1e-8,
      weightDecay: options.weightDecay ?? 0,
      decays: options.decays ?? (() => true),
      // Larger than any float32 norm that is finite, so that without clipping the factor is 1.
      maxGradientNorm: options.maxGradientNorm ?? 3.4e38,
    };
    this.lossScale = options.lossScale;
    this.hyper = keep(tensor(this.device, new Float32Array(4)));
    this.gradientNorm = keep(tensor(this.device, new Float32Array(STATUS_SIZE)));
    for (const [name, parameter] of parameters) {
      this.moments.set(name, {
        m: keep(zeros(this.device, parameter.shape)),
        v: keep(zeros(this.device, parameter.shape)),
      });
    }
  }

  /** Writes the rate and bias corrections of the next step. */
  prepare(learningRate: number): void {
    this.stepCount++;
    const [beta1, beta2] = this.options.betas;
    const corrections = [1 - beta1 ** this.stepCount, Math.sqrt(1 - beta2 ** this.stepCount)];
    this.hyper.write([learningRate, ...corrections, this.stepCount]);
  }

  /** Dispatches the update with the gradients at hand; their memory stays the caller's. */
  apply(gradients: Gradients): void {
    this.measure(gradients);
    const [beta1, beta2] = this.options.betas;
    const { epsilon, weightDecay, decays } = this.options;
    for (const [name, gradient] of gradients) {
      const parameter = this.parameter(name, gradient);
      const { m, v } = this.moments.get(name)!;
      const vector = takesVectors(parameter.size);
      const count = vector ? parameter.size / LANES : parameter.size;
      this.device.dispatch(adamWKernel, {
        bindings: {
          weight: parameter.range(),
          gradient: gradient.range(),
          m: m.range(),
          v: v.range(),
          h: this.hyper.range(),
          status: this.gradientNorm.range(),
        },
        params: { count, beta1, beta2, epsilon, decay: decays(name, parameter) ? weightDecay : 0 },
        constants: { vector },
        groups: Math.ceil(count / this.device.workgroupOf(adamWKernel)),
      });
    }
  }

  /** `prepare` and `apply`. */
  step(gradients: Gradients, learningRate: number): void {
    this.prepare(learningRate);
    this.apply(gradients);
  }

  /** Moments by name (`<parameter>.m`, `<parameter>.v`), to be saved or written to. They stay the optimizer's. */
  state(): Map<string, Tensor> {
    const all = new Map<string, Tensor>();
    for (const [name, { m, v }] of this.moments) all.set(`${name}.m`, m).set(`${name}.v`, v);
    return all;
  }

  dispose(): void {
    for (const { m, v } of this.moments.values()) {
      m.dispose();
      v.dispose();
    }
    this.hyper.dispose();
    this.gradientNorm.dispose();
  }

  private parameter(name: string, gradient: Tensor): Tensor {
    const parameter = this.parameters.get(name);
    if (!parameter)
      throw new ZebraError('argument', `AdamW: a gradient came for ${name}, which is no parameter of this optimizer`);
    if (!sameShape(parameter.shape, gradient.shape)) {
      throw new ZebraError(
        'shape',
        `AdamW: the gradient of ${name} has shape ${showShape(gradient.shape)}, the parameter ${showShape(parameter.shape)}`,
      );
    }
    return parameter;
  }

  /** Global norm and clip factor, from partial sums in a fixed order. */
  private measure(gradients: Gradients): void {
    const { device } = this;
    const { software } = device.info;
    const size = NORM_BLOCK[software ? 'software' : 'hardware'];
    scope(() => {
      const blocks = [...gradients.values()].map((gradient) => Math.ceil(gradient.size / size));
      const total = blocks.reduce((sum, n) => sum + n, 0);
      const partial = allocateTensor(device, { shape: [total], dtype: 'float32' });
      let first = 0;
      [...gradients.values()].forEach((gradient, index) => {
        const rows = blocks[index]!;
        const width = takesVectors(gradient.size) ? 4 : 1;
        const plan = { units: size / width, constants: { lanes: software ? 1 : 256, width } } as const;
        device.dispatch(squaredNormKernel, {
          bindings: { x: gradient.range(), partial: partial.range() },
          params: { rows, units: plan.units, total: gradient.size / width, first },
          constants: plan.constants,
          groups: rowGroups(device, squaredNormKernel, rows, plan),
        });
        first += rows;
      });
      const squares = allocateTensor(device, { shape: [1], dtype: 'float32' });
      reduceInto(partial, squares, 1, total, 1, 'sum');
      this.clip(squares);
    });
  }

  private clip(squares: Tensor): void {
    const { device, lossScale, hyper, gradientNorm } = this;
    const { maxGradientNorm: most, betas } = this.options;
    const bindings = { squares: squares.range(), h: hyper.range(), status: gradientNorm.range() };
    if (!lossScale) {
      device.dispatch(clipKernel, { bindings, params: { count: 1, most }, groups: 1 });
      return;
    }
    const { growth, backoff, interval, minimum, maximum } = lossScale.options;
    const logs = { log_beta1: Math.log(betas[0]), log_beta2: Math.log(betas[1]) };
    device.dispatch(scaledClipKernel, {
      bindings: { ...bindings, scaler: lossScale.tensor.range() },
      params: { count: 1, most, growth, backoff, interval, minimum, maximum, ...logs },
      groups: 1,
    });
  }
}
