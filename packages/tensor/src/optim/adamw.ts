import { tensor, zeros } from '../core/create.js';
import { allocateTensor } from '../core/define-op.js';
import { keep, scope } from '../core/scope.js';
import { sameShape, showShape } from '../core/shape.js';
import type { Tensor } from '../core/tensor.js';
import type { Device } from '../device/device.js';
import { ZebraError } from '../errors.js';
import { LANES, takesVectors } from '../ops/pointwise/lanes.wgsl.js';
import { reduceInto } from '../ops/reduce/reduce-kernel.js';
import { adamWKernel, clipKernel, NORM_PIECE, squaredNormKernel } from './optim.wgsl.js';

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
}

/** Gradients by parameter name. Parameters without one are left alone. */
export type Gradients = ReadonlyMap<string, Tensor>;

/**
 * AdamW over float32 parameters, in place, with the global gradient norm and its clipping computed on the device.
 *
 * `prepare` writes what changes from step to step; `apply` only dispatches, so that it can be part of a recorded
 * program. `step` does both. A step whose gradient norm is not finite changes nothing but the step count.
 */
export class AdamW {
  /** Steps so far. */
  stepCount = 0;
  /** float32 [2]: global norm of the last gradients before clipping, and the factor they were scaled with. */
  readonly gradientNorm: Tensor;
  private readonly device: Device;
  private readonly parameters: ReadonlyMap<string, Tensor>;
  private readonly moments = new Map<string, { m: Tensor; v: Tensor }>();
  private readonly hyper: Tensor;
  private readonly options: Required<Omit<AdamWOptions, 'maxGradientNorm'>> & { maxGradientNorm: number };

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
    this.hyper = keep(tensor(this.device, new Float32Array(3)));
    this.gradientNorm = keep(tensor(this.device, new Float32Array(2)));
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
    this.hyper.write([learningRate, 1 - beta1 ** this.stepCount, Math.sqrt(1 - beta2 ** this.stepCount)]);
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
          clip: this.gradientNorm.range(),
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
    scope(() => {
      const pieces = [...gradients.values()].map((gradient) => Math.ceil(gradient.size / NORM_PIECE));
      const total = pieces.reduce((sum, n) => sum + n, 0);
      const partial = allocateTensor(this.device, { shape: [total], dtype: 'float32' });
      let first = 0;
      [...gradients.values()].forEach((gradient, index) => {
        const count = pieces[index]!;
        this.device.dispatch(squaredNormKernel, {
          bindings: { x: gradient.range(), partial: partial.range() },
          params: { pieces: count, count: gradient.size, first },
          groups: Math.ceil(count / this.device.workgroupOf(squaredNormKernel)),
        });
        first += count;
      });
      const squares = allocateTensor(this.device, { shape: [1], dtype: 'float32' });
      reduceInto(partial, squares, 1, total, 1, 'sum');
      this.device.dispatch(clipKernel, {
        bindings: { squares: squares.range(), result: this.gradientNorm.range() },
        params: { count: 1, most: this.options.maxGradientNorm },
        groups: 1,
      });
    });
  }
}
