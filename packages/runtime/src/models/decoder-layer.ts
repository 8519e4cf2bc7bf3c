// Shape suffixes: B rows, T tokens, D hidden size, F MLP size.
import { add, linear, project, rmsNorm, type Shape, swiglu, type Tensor } from '@zebra/tensor';
import {
  type ComputeDType,
  checkWeights,
  type LayerResult,
  type Mixer,
  type MixerState,
  type SequenceContext,
  type StepNorm,
} from '@zebra/tensor/nn';

/** Sizes of the parts of a decoder layer around its mixer. */
export interface DecoderLayerConfig {
  readonly hiddenSize: number;
  readonly intermediateSize: number;
  readonly normEpsilon: number;
  /** What mixer and MLP compute in; the residual stream is float32. Default float32. */
  readonly computeDType?: ComputeDType;
}

/** Parameters of a decoder layer around its mixer, by name. */
export function decoderSpecs({ hiddenSize, intermediateSize }: DecoderLayerConfig): Map<string, Shape> {
  return new Map<string, Shape>([
    ['input_layernorm.weight', [hiddenSize]],
    ['post_attention_layernorm.weight', [hiddenSize]],
    ['mlp.gate_proj.weight', [intermediateSize, hiddenSize]],
    ['mlp.up_proj.weight', [intermediateSize, hiddenSize]],
    ['mlp.down_proj.weight', [hiddenSize, intermediateSize]],
  ]);
}

/** A pre-norm decoder layer with a gated MLP around any mixer: x + mixer(norm x), then + MLP(norm ·). */
export class DecoderLayer {
  readonly mixer: Mixer;
  private readonly config: DecoderLayerConfig;
  private readonly weights: ReadonlyMap<string, Tensor>;

  /** @throws ZebraError `format` when the weights are not exactly those of {@link decoderSpecs} */
  constructor(config: DecoderLayerConfig, mixer: Mixer, weights: ReadonlyMap<string, Tensor>) {
    checkWeights('DecoderLayer', decoderSpecs(config), weights);
    this.config = config;
    this.mixer = mixer;
    this.weights = weights;
  }

  forward(x_BTD: Tensor, context: SequenceContext, state?: MixerState): LayerResult {
    const mixerOutput = this.mixer.forward(this.norm(x_BTD, 'input_layernorm.weight'), context, state);
    const middle_BTD = add(x_BTD, mixerOutput);
    const normed_BTD = this.norm(middle_BTD, 'post_attention_layernorm.weight');
    const gated_BTF = swiglu(
      linear(normed_BTD, this.weight('mlp.gate_proj.weight')),
      linear(normed_BTD, this.weight('mlp.up_proj.weight')),
    );
    // float32: the sums of a residual stream pass what float16 holds in some models.
    const residual = { residual: middle_BTD, dtype: 'float32' } as const;
    return { output: linear(gated_BTF, this.weight('mlp.down_proj.weight'), undefined, residual), mixerOutput };
  }

  /** The same for one token a row, in few dispatches: see `Mixer.step`. */
  step(x_B1D: Tensor, context: SequenceContext, state: MixerState): Tensor {
    const middle_B1D =
      this.mixer.step?.(x_B1D, this.stepNorm('input_layernorm.weight'), context, state) ??
      add(x_B1D, this.mixer.forward(this.norm(x_B1D, 'input_layernorm.weight'), context, state));
    const norm = this.stepNorm('post_attention_layernorm.weight');
    const weights = [this.weight('mlp.gate_proj.weight'), this.weight('mlp.up_proj.weight')];
    const gated_B1F = project(middle_B1D, weights, { norm, gated: true, dtype: norm.dtype });
    return project(gated_B1F, [this.weight('mlp.down_proj.weight')], { residual: middle_B1D, dtype: 'float32' });
  }

  private stepNorm(name: string): StepNorm {
    const { normEpsilon, computeDType = 'float32' } = this.config;
    return { weight: this.weight(name), eps: normEpsilon, dtype: computeDType };
  }

  private norm(x: Tensor, name: string): Tensor {
    const { normEpsilon, computeDType = 'float32' } = this.config;
    return rmsNorm(x, this.weight(name), { eps: normEpsilon, dtype: computeDType });
  }

  private weight(name: string): Tensor {
    return this.weights.get(name) as Tensor;
  }
}
