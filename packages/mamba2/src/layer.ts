// Shapes: B rows, T tokens of this pass, D hidden size, W columns of in_proj (z, x, B, C, dt), I inner size.

import { type Device, linear, project, scope, type Tensor, ZebraError } from '@zebra/tensor';
import { checkWeights, type Mixer, type MixerState, type SequenceContext, type StepNorm } from '@zebra/tensor/nn';
import {
  type Mamba2Config,
  type Mamba2Sizes,
  type Mamba2WeightName,
  mamba2Sizes,
  mamba2WeightSpecs,
} from './config.js';
import { mixerOp, statefulMixerOp } from './ops/mixer/index.js';
import { expectArgument } from './rows.js';
import { Mamba2State } from './state.js';

/** What a Mamba2 layer wants to know of its tokens. */
export type Mamba2Context = Pick<SequenceContext, 'segments'>;

/**
 * The Mamba2 layer of MambaInLlama and Zebra-Llama (arXiv 2408.15237, 2505.17272): as many groups as heads, state size
 * equal to head size, x and B with the key/value heads of the attention layer that it replaces.
 *
 * Weights stay the caller's: the layer holds the tensors it is given and frees none of them.
 */
export class Mamba2Layer implements Mixer {
  readonly kind = 'mamba2';
  readonly config: Mamba2Sizes;
  readonly device: Device;
  private readonly weights: ReadonlyMap<string, Tensor>;

  /**
   * @param weights exactly the tensors that `mamba2WeightSpecs(config)` names, float32 or float16, on one device
   * @throws ZebraError `argument` on a wrong config; `format` that lists every missing, unexpected and misshaped
   *   weight; `dtype` or `device` on one that cannot be computed with
   */
  constructor(config: Mamba2Config, weights: ReadonlyMap<string, Tensor>) {
    this.config = mamba2Sizes(config);
    checkWeights('Mamba2Layer', mamba2WeightSpecs(config), weights);
    this.weights = new Map(weights);
    this.device = this.weight('in_proj.weight').device;
    for (const [name, weight] of weights) {
      if (weight.device !== this.device) throw new ZebraError('device', `Mamba2Layer: ${name} lies on another device`);
      expectArgument('Mamba2Layer', name, weight, weight.shape);
    }
  }

  /** The weights by their names in a checkpoint, without the layer's prefix. */
  namedParameters(): ReadonlyMap<string, Tensor> {
    return this.weights;
  }

  /** A zero state for `batch` rows, of constant size: `capacity` is not needed. The caller disposes of it. */
  newState(batch: number, _capacity?: number): Mamba2State {
    return new Mamba2State(this.device, this.config, batch);
  }

  /**
   * Without a state: whole rows, differentiable in x and every weight. With a state: continues from it and updates it
   * in place, without a gradient; a pass of one token takes the step kernels and can be recorded in a program.
   *
   * Convolution and state start from zero wherever a token's segment differs from the one before it. Padding (−1)
   * touches neither, and its output is zero.
   *
   * @param x [B, T, D]; the layer computes in its dtype: in float16 its activations are float16, its states and decays
   *   float32 all the same, and float32 weights are rounded on the way into a product
   * @param state made by {@link newState} for B rows
   * @returns [B, T, D], float32, owned by the caller
   * @throws ZebraError `shape`, `dtype` or `argument` that names the argument
   */
  forward(x: Tensor, context: Mamba2Context = {}, state?: MixerState): Tensor {
    const { hiddenSize } = this.config;
    if (x.shape.length !== 3 || x.shape[2] !== hiddenSize) {
      throw new ZebraError('shape', `Mamba2Layer: x must be [B, T, ${hiddenSize}], got [${x.shape.join(', ')}]`);
    }
    return scope(() => {
      const inputs = this.mixerInputs(linear(x, this.weight('in_proj.weight')), context);
      const [mixed_BTI] = state
        ? statefulMixerOp.apply([...inputs, ...this.tensorsOf(x, state)], this.config)
        : mixerOp.apply(inputs, this.config);
      // The result joins a float32 residual stream, whatever the layer computes in.
      return linear(mixed_BTI!, this.weight('out_proj.weight'), undefined, { dtype: 'float32' });
    });
  }

  /** One token a row, with what stands around the layer: see `Mixer.step`. */
  step(x_B1D: Tensor, norm: StepNorm, context: Mamba2Context, state: MixerState): Tensor {
    return scope(() => {
      const row_B1W = project(x_B1D, [this.weight('in_proj.weight')], { norm, dtype: norm.dtype });
      const inputs = [...this.mixerInputs(row_B1W, context), ...this.tensorsOf(x_B1D, state)];
      const [mixed_B1I] = statefulMixerOp.apply(inputs, this.config);
      return project(mixed_B1I!, [this.weight('out_proj.weight')], { residual: x_B1D, dtype: 'float32' });
    });
  }

  private mixerInputs(row: Tensor, { segments }: Mamba2Context): (Tensor | undefined)[] {
    const names = ['conv1d.weight', 'conv1d.bias', 'dt_bias', 'A_log', 'D', 'norm.weight'] as const;
    return [row, ...names.map((name) => this.weight(name)), segments];
  }

  private weight(name: Mamba2WeightName): Tensor {
    return this.weights.get(name) as Tensor;
  }

  private tensorsOf(x: Tensor, state: MixerState): [conv: Tensor, ssm: Tensor] {
    if (!(state instanceof Mamba2State)) {
      throw new ZebraError('argument', 'Mamba2Layer: this state is not of a Mamba2 layer. Make one with newState().');
    }
    if (state.batch !== x.shape[0]) {
      throw new ZebraError('shape', `Mamba2Layer: the state is for ${state.batch} rows, x has ${x.shape[0]}`);
    }
    return [state.conv, state.ssm];
  }
}
