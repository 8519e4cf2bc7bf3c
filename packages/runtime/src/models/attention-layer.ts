// Shape suffixes: B rows, T tokens, D hidden size, H query heads, K key/value heads, h head size, C cache capacity.
import {
  attention,
  cacheWrite,
  type Device,
  keep,
  linear,
  project,
  reshape,
  rmsNorm,
  rope,
  ropeIntoCache,
  type Shape,
  type Tensor,
  ZebraError,
  zeros,
} from '@zebra/tensor';
import {
  type CacheContext,
  type ComputeDType,
  checkWeights,
  type Mixer,
  type MixerState,
  type RopeTables,
  type SequenceContext,
  type StepNorm,
} from '@zebra/tensor/nn';

/** Sizes and options of a grouped-query attention layer. */
export interface AttentionConfig {
  readonly hiddenSize: number;
  readonly headCount: number;
  readonly keyValueHeadCount: number;
  readonly headDim: number;
  /** Biases on q, k and v (Qwen2), none on the output. */
  readonly attentionBias: boolean;
  /** RMSNorm over each query and key head before RoPE (Qwen3). */
  readonly queryKeyNorm: boolean;
  readonly normEpsilon: number;
}

/** Expected parameters of an attention layer, by name. */
export function attentionSpecs(config: AttentionConfig): Map<string, Shape> {
  const { hiddenSize, headDim } = config;
  const queries = config.headCount * headDim;
  const keys = config.keyValueHeadCount * headDim;
  const specs = new Map<string, Shape>([
    ['q_proj.weight', [queries, hiddenSize]],
    ['k_proj.weight', [keys, hiddenSize]],
    ['v_proj.weight', [keys, hiddenSize]],
    ['o_proj.weight', [hiddenSize, queries]],
  ]);
  if (config.attentionBias) specs.set('q_proj.bias', [queries]).set('k_proj.bias', [keys]).set('v_proj.bias', [keys]);
  if (config.queryKeyNorm) specs.set('q_norm.weight', [headDim]).set('k_norm.weight', [headDim]);
  return specs;
}

/** Keys (after RoPE) and values of one layer: [B, C, K, h] each. */
export class AttentionState implements MixerState {
  readonly keys: Tensor;
  readonly values: Tensor;
  readonly bytesPerToken: number;
  readonly constantBytes = 0;

  constructor(device: Device, config: AttentionConfig, batch: number, capacity: number, dtype: ComputeDType) {
    const shape = [batch, capacity, config.keyValueHeadCount, config.headDim];
    this.keys = keep(zeros(device, shape, { dtype }));
    this.values = keep(zeros(device, shape, { dtype }));
    this.bytesPerToken = (this.keys.byteLength + this.values.byteLength) / (batch * capacity);
  }

  dispose(): void {
    this.keys.dispose();
    this.values.dispose();
  }
}

/** Grouped-query attention with half-split RoPE, as Llama and Qwen have it. The weights and tables stay the caller's. */
export class AttentionLayer implements Mixer {
  readonly kind = 'attention';
  private readonly config: AttentionConfig;
  private readonly weights: ReadonlyMap<string, Tensor>;
  private readonly tables: RopeTables;

  /** @throws ZebraError `format` when the weights are not exactly those of {@link attentionSpecs} */
  constructor(config: AttentionConfig, weights: ReadonlyMap<string, Tensor>, tables: RopeTables) {
    checkWeights('AttentionLayer', attentionSpecs(config), weights);
    this.config = config;
    this.weights = weights;
    this.tables = tables;
  }

  namedParameters(): ReadonlyMap<string, Tensor> {
    return this.weights;
  }

  /** @throws ZebraError `argument` for a capacity beyond the rotary tables */
  newState(batch: number, capacity: number, dtype: ComputeDType = 'float32'): AttentionState {
    this.assertPositions(capacity);
    return new AttentionState(this.weight('q_proj.weight').device, this.config, batch, capacity, dtype);
  }

  forward(x_BTD: Tensor, context: SequenceContext, state?: MixerState): Tensor {
    const { headCount, keyValueHeadCount, queryKeyNorm } = this.config;
    this.assertPositions(x_BTD.shape[1] as number);
    const q_BTHh = this.rotated(this.heads(x_BTD, 'q', headCount), queryKeyNorm ? 'q_norm.weight' : undefined, context);
    const k_BTKh = this.rotated(
      this.heads(x_BTD, 'k', keyValueHeadCount),
      queryKeyNorm ? 'k_norm.weight' : undefined,
      context,
    );
    const v_BTKh = this.heads(x_BTD, 'v', keyValueHeadCount);
    const y_BTHh = state
      ? this.cached(q_BTHh, k_BTKh, v_BTKh, context, state)
      : attention(q_BTHh, k_BTKh, v_BTKh, segmentsOf(context));
    const [batch, tokens] = x_BTD.shape as [number, number, number];
    return linear(reshape(y_BTHh, [batch, tokens, -1]), this.weight('o_proj.weight'), undefined, { dtype: 'float32' });
  }

  step(x_B1D: Tensor, norm: StepNorm, context: SequenceContext, state: MixerState): Tensor | undefined {
    const { attentionBias, queryKeyNorm, headDim } = this.config;
    if (attentionBias || queryKeyNorm) return undefined;
    const { keys, values, cache } = this.cacheOf(context, state);
    const weights = ['q', 'k', 'v'].map((letter) => this.weight(`${letter}_proj.weight`));
    const rows = project(x_B1D, weights, { norm, dtype: norm.dtype });
    const { tables } = this;
    const { positions } = context;
    const q_B1Hh = ropeIntoCache({ rows, tables, positions, keys, values, length: cache.length });
    const y_B1Hh = attention(q_B1Hh, keys, values, cacheMask(context, cache));
    const [batch] = x_B1D.shape as [number];
    const y_B1O = reshape(y_B1Hh, [batch, 1, this.config.headCount * headDim]);
    return project(y_B1O, [this.weight('o_proj.weight')], { residual: x_B1D, dtype: 'float32' });
  }

  private cached(q: Tensor, k: Tensor, v: Tensor, context: SequenceContext, state: MixerState): Tensor {
    const { keys, values, cache } = this.cacheOf(context, state);
    cacheWrite(keys, k, cache.length);
    cacheWrite(values, v, cache.length);
    return attention(q, keys, values, cacheMask(context, cache));
  }

  private cacheOf(context: SequenceContext, state: MixerState) {
    if (!(state instanceof AttentionState) || !context.cache) {
      throw new ZebraError(
        'argument',
        'AttentionLayer.forward: this state was not made by newState() of an attention layer, or no cache context came with it',
      );
    }
    const { cache } = context;
    if (!context.positions && !cache.fresh) {
      throw new ZebraError(
        'argument',
        'AttentionLayer.forward: positions must be given, int32 [B, T], when a cache that holds tokens is continued: the number of cached tokens is known on the device alone.',
      );
    }
    return { keys: state.keys, values: state.values, cache };
  }

  private heads(x_BTD: Tensor, letter: 'q' | 'k' | 'v', count: number): Tensor {
    const y = linear(x_BTD, this.weight(`${letter}_proj.weight`), this.weights.get(`${letter}_proj.bias`));
    const [batch, tokens] = x_BTD.shape as [number, number, number];
    return reshape(y, [batch, tokens, count, this.config.headDim]);
  }

  private rotated(heads: Tensor, norm: string | undefined, context: SequenceContext): Tensor {
    const normed = norm ? rmsNorm(heads, this.weight(norm), { eps: this.config.normEpsilon }) : heads;
    return rope(normed, this.tables, context.positions, { layout: 'half' });
  }

  /** A position past the tables would be rotated as if it were their last. */
  private assertPositions(tokens: number): void {
    const rows = this.tables.cos.shape[0] as number;
    if (tokens > rows) {
      throw new ZebraError(
        'argument',
        `AttentionLayer: ${tokens} tokens were asked for, the rotary tables hold ${rows} positions. Load the model with a larger maxPositions.`,
      );
    }
  }

  private weight(name: string): Tensor {
    return this.weights.get(name) as Tensor;
  }
}

function cacheMask({ segments }: SequenceContext, { keyLength, keySegments }: CacheContext) {
  return { keyLength, ...(segments && keySegments && { segments, keySegments }) };
}

function segmentsOf(context: SequenceContext): { segments?: Tensor } {
  return context.segments ? { segments: context.segments } : {};
}
