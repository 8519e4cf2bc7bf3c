// Shapes: B rows, T tokens of this pass, S tokens attended to, D hidden size, H query heads, N key heads, Q = nope +
// rope of a head, R rope alone, L latent, V value of a head, C = L + R a cached row.

import {
  type AttentionOptions,
  attention,
  type Device,
  type DType,
  linear,
  project,
  reshape,
  rmsNorm,
  rope,
  scope,
  slice,
  type Tensor,
  ZebraError,
} from '@zebra/tensor';
import {
  type CacheContext,
  type ComputeDType,
  checkWeights,
  type Mixer,
  type MixerState,
  type SequenceContext,
  type StepNorm,
} from '@zebra/tensor/nn';
import { type MlaConfig, type MlaSizes, mlaSizes, mlaWeightSpecs } from './config.js';
import { MlaState } from './latent-cache.js';
import { absorbQueries, expandValues } from './ops/absorb/index.js';
import { absorbStep } from './ops/absorb-step/index.js';
import { joinKeys } from './ops/join-keys/index.js';
import { joinLatent, splitLatent } from './ops/split-latent/index.js';
import { assertComputable, assertLeading, shapeError } from './shapes.js';
import { shareRopeTables, type TableShare } from './shared-tables.js';

/** Options of {@link MlaLayer}. */
export interface MlaLayerOptions {
  /**
   * Whether a pass with a state meets the cached latents in latent space (absorbed) or makes keys and values of them.
   * `auto` (the default): a prefill of several tokens decompresses its own latents, every other pass is absorbed.
   * `always` and `never` compute the same and are for tests and measurements; `never` decompresses the whole cache.
   */
  readonly absorb?: 'auto' | 'always' | 'never';
}

/** The latents of one pass, as one row a token or in their two parts, whichever is wanted. */
interface Latents {
  rows(): Tensor;
  parts(): readonly [latent: Tensor, rope: Tensor];
}

/** Options of attention that say which keys a query sees. */
type Mask = Pick<AttentionOptions, 'segments' | 'keySegments' | 'keyLength'>;

/**
 * Multi-head latent attention (DeepSeek-V2, arXiv 2405.04434) as the Zebra-Llama models have it (arXiv 2505.17272):
 * queries, keys and values go through low-rank latents, one rotary key serves all heads, and the cache holds a latent
 * and that key for each token.
 *
 * Weights stay the caller's: the layer holds the tensors it is given, and disposing of it leaves them alone. Its
 * rotary tables are shared among the layers of one device and rope config, and freed with the last of them.
 */
export class MlaLayer implements Mixer {
  readonly kind = 'mla';
  readonly config: MlaSizes;
  readonly device: Device;
  private readonly weights: ReadonlyMap<string, Tensor>;
  private readonly absorb: 'auto' | 'always' | 'never';
  private readonly share: TableShare;
  private disposed = false;

  /**
   * @param weights exactly the tensors that `mlaWeightSpecs(config)` names, float32 or float16, on one device
   * @throws ZebraError `argument` on a wrong config or option; `format` that lists every missing, unexpected and
   *   misshaped weight; `program` while a program is captured, since tables are uploaded
   */
  constructor(config: MlaConfig, weights: ReadonlyMap<string, Tensor>, options: MlaLayerOptions = {}) {
    this.config = mlaSizes(config);
    this.absorb = options.absorb ?? 'auto';
    if (!['auto', 'always', 'never'].includes(this.absorb)) {
      throw new ZebraError(
        'argument',
        `MlaLayer: absorb must be 'auto', 'always' or 'never', got ${String(this.absorb)}`,
      );
    }
    checkWeights('MlaLayer', mlaWeightSpecs(config), weights);
    this.weights = new Map(weights);
    this.device = this.weight('out_proj').device;
    for (const [name, { device, dtype }] of weights) {
      if (device !== this.device) throw new ZebraError('device', `MlaLayer: ${name} lies on another device`);
      assertComputable('MlaLayer', name, dtype);
    }
    this.share = shareRopeTables(this.device, this.config);
  }

  namedParameters(): ReadonlyMap<string, Tensor> {
    return this.weights;
  }

  /** An empty state for `batch` rows of at most `capacity` tokens, in the dtype that inputs will have; the caller disposes of it. */
  newState(batch: number, capacity: number, dtype: ComputeDType = 'float32'): MlaState {
    return new MlaState(this.device, this.config, batch, capacity, dtype);
  }

  /**
   * @param x [B, T, D], float32 or float16
   * @param context with a state, `cache` is required, and `positions` too unless the cache is fresh
   * @param state continued and updated in place; no gradient flows then
   * @returns [B, T, D], float32, owned by the caller
   * @throws ZebraError `shape` or `argument` where the inputs do not fit; `disposed` after `dispose()`
   */
  forward(x: Tensor, context: SequenceContext, state?: MixerState): Tensor {
    this.checkInput(x, context);
    const cached = state && this.checkState(x, context, state);
    return scope(() => {
      const q_BTHQ = this.queries(x, context.positions);
      const latents = this.latents(x, context.positions);
      const mixed_BTO = cached
        ? this.attendCached(q_BTHQ, latents, context, cached)
        : this.attend(q_BTHQ, latents.parts(), { segments: context.segments });
      return linear(mixed_BTO, this.weight('out_proj'), undefined, { dtype: 'float32' });
    });
  }

  /** One token a row, with what stands around the layer: see `Mixer.step`. */
  step(x_B1D: Tensor, norm: StepNorm, context: SequenceContext, given: MixerState): Tensor | undefined {
    if (this.absorb === 'never') return undefined;
    this.checkInput(x_B1D, context);
    const { state, cache } = this.checkState(x_B1D, context, given);
    const { headCount, qLoraRank, qkNopeHeadDim, vHeadDim } = this.config;
    const { dtype } = norm;
    return scope(() => {
      const weights = [this.weight(qLoraRank === null ? 'q_proj' : 'q_a_proj'), this.weight('kv_a_proj_with_mqa')];
      const down = project(x_B1D, weights, { norm, dtype });
      // Without a latent of the queries they stand in front of the others' in these rows.
      const q =
        qLoraRank === null
          ? slice(down, 2, 0, weights[0]!.shape[0]!)
          : project(down, [this.weight('q_b_proj')], { ...this.stepNorm('q_a_layernorm'), dtype });
      const sizes = { headCount, nopeSize: qkNopeHeadDim, valueSize: vHeadDim };
      const up = this.weight('kv_b_proj');
      const q_B1HC = absorbStep({
        q,
        down,
        weight: up,
        ...this.stepNorm('kv_a_layernorm'),
        tables: this.share.tables,
        positions: context.positions,
        length: cache.length,
        rows: state.rows,
        ...sizes,
      });
      const mixed_B1O = this.attendLatents(q_B1HC, state, cacheMask(context, cache), dtype);
      return project(mixed_B1O, [this.weight('out_proj')], { residual: x_B1D, dtype: 'float32' });
    });
  }

  private stepNorm(name: string) {
    const { useLoraLayerNorm, latentNormEpsilon } = this.config;
    return useLoraLayerNorm ? { norm: { weight: this.weight(name), eps: latentNormEpsilon } } : {};
  }

  private queries(x_BTD: Tensor, positions: Tensor | undefined): Tensor {
    const { headCount, qkHeadDim, qkNopeHeadDim, qLoraRank } = this.config;
    const [batch, tokens] = x_BTD.shape as [number, number];
    const q_BTO =
      qLoraRank === null
        ? linear(x_BTD, this.weight('q_proj'))
        : linear(this.norm('q_a_layernorm', linear(x_BTD, this.weight('q_a_proj'))), this.weight('q_b_proj'));
    return this.rotate(reshape(q_BTO, [batch, tokens, headCount, qkHeadDim]), positions, qkNopeHeadDim);
  }

  private latents(x_BTD: Tensor, positions: Tensor | undefined): Latents {
    const { kvLoraRank, useLoraLayerNorm } = this.config;
    const down_BTC = linear(x_BTD, this.weight('kv_a_proj_with_mqa'));
    if (!useLoraLayerNorm) {
      const rows_BTC = this.rotateShared(down_BTC, positions, kvLoraRank);
      return { rows: () => rows_BTC, parts: () => splitLatent(rows_BTC, kvLoraRank) };
    }
    const [latent_BTL, rope_BTR] = splitLatent(down_BTC, kvLoraRank);
    const parts = [this.norm('kv_a_layernorm', latent_BTL), this.rotateShared(rope_BTR, positions, 0)] as const;
    return { rows: () => joinLatent(...parts), parts: () => parts };
  }

  /** Decompressed: keys and values of every head, then ordinary attention. */
  private attend(q_BTHQ: Tensor, [latent_BSL, rope_BSR]: readonly [Tensor, Tensor], mask: Mask): Tensor {
    const { keyHeadCount, qkNopeHeadDim, vHeadDim, softmaxScale } = this.config;
    const up_BSO = linear(latent_BSL, this.weight('kv_b_proj'));
    const shape = [...latent_BSL.shape.slice(0, 2), keyHeadCount, qkNopeHeadDim + vHeadDim];
    const [k_BSNQ, v_BSNV] = joinKeys(reshape(up_BSO, shape), rope_BSR, qkNopeHeadDim);
    const y_BTHV = attention(q_BTHQ, k_BSNQ, v_BSNV, { scale: softmaxScale, ...mask });
    return reshape(y_BTHV, [...q_BTHQ.shape.slice(0, 2), -1]);
  }

  private attendCached(
    q_BTHQ: Tensor,
    latents: Latents,
    context: SequenceContext,
    { state, cache }: { readonly state: MlaState; readonly cache: CacheContext },
  ): Tensor {
    const { kvLoraRank, qkNopeHeadDim, vHeadDim } = this.config;
    const tokens = q_BTHQ.shape[1]!;
    state.append(latents.rows(), cache);
    if (cache.fresh && (this.absorb === 'never' || (this.absorb === 'auto' && tokens > 1))) {
      return this.attend(q_BTHQ, latents.parts(), { segments: context.segments });
    }
    const mask = cacheMask(context, cache);
    if (this.absorb === 'never') return this.attend(q_BTHQ, splitLatent(state.rows, kvLoraRank), mask);
    const sizes = { nopeSize: qkNopeHeadDim, valueSize: vHeadDim };
    const q_BTHC = absorbQueries(q_BTHQ, this.weight('kv_b_proj'), { ...sizes, dtype: state.rows.dtype });
    return this.attendLatents(q_BTHC, state, mask, q_BTHQ.dtype);
  }

  /** Absorbed: queries in latent space meet the cached rows, and what comes of it becomes the heads' values. */
  private attendLatents(q_BTHC: Tensor, state: MlaState, mask: Mask, dtype: DType): Tensor {
    const { kvLoraRank, qkNopeHeadDim, vHeadDim, softmaxScale, cacheRowSize } = this.config;
    const rows_BS1C = reshape(state.rows, [state.batch, state.capacity, 1, cacheRowSize]);
    const y_BTHL = attention(q_BTHC, rows_BS1C, rows_BS1C, { scale: softmaxScale, valueSize: kvLoraRank, ...mask });
    return expandValues(y_BTHL, this.weight('kv_b_proj'), { nopeSize: qkNopeHeadDim, valueSize: vHeadDim, dtype });
  }

  private rotate(x_BTHQ: Tensor, positions: Tensor | undefined, start: number): Tensor {
    return rope(x_BTHQ, this.share.tables, positions, { start, layout: 'interleaved' });
  }

  /** Rotates from `start` what all heads share, [B, T, size]. */
  private rotateShared(x_BTC: Tensor, positions: Tensor | undefined, start: number): Tensor {
    const [batch, tokens, size] = x_BTC.shape as [number, number, number];
    return reshape(this.rotate(reshape(x_BTC, [batch, tokens, 1, size]), positions, start), x_BTC.shape);
  }

  private norm(name: string, x: Tensor): Tensor {
    const { useLoraLayerNorm, latentNormEpsilon } = this.config;
    return useLoraLayerNorm ? rmsNorm(x, this.weight(name), { eps: latentNormEpsilon }) : x;
  }

  private weight(name: string): Tensor {
    return this.weights.get(`${name}.weight`)!;
  }

  private checkInput(x: Tensor, { positions, segments }: SequenceContext): void {
    const { hiddenSize, maxPositions } = this.config;
    if (this.disposed) throw new ZebraError('disposed', 'MlaLayer: this layer was disposed of');
    if (x.shape.length !== 3 || x.shape[2] !== hiddenSize)
      shapeError('MlaLayer', 'x', `[B, T, ${hiddenSize}]`, x.shape);
    const [batch, tokens] = x.shape as [number, number, number];
    for (const [name, given] of Object.entries({ positions, segments })) {
      if (given) assertLeading('MlaLayer', name, given.shape, [batch, tokens]);
    }
    if (!positions && tokens > maxPositions) {
      throw new ZebraError(
        'argument',
        `MlaLayer: ${tokens} tokens pass the layer's maxPositions of ${maxPositions}. Raise maxPositions in its config.`,
      );
    }
  }

  private checkState(x: Tensor, context: SequenceContext, state: MixerState): { state: MlaState; cache: CacheContext } {
    const { cache, positions } = context;
    if (!(state instanceof MlaState) || state.rows.shape[2] !== this.config.cacheRowSize) {
      throw new ZebraError('argument', 'MlaLayer: this state is not of this layer. Make one with newState().');
    }
    if (state.batch !== x.shape[0]) shapeError('MlaLayer', 'x', `of ${state.batch} rows, as the state is`, x.shape);
    if (!cache) {
      throw new ZebraError('argument', 'MlaLayer: a state needs context.cache, which says how much it holds.');
    }
    if (!positions && !cache.fresh) {
      throw new ZebraError(
        'argument',
        'MlaLayer: context.positions must be given, int32 [B, T], when a cache that holds tokens is continued: the number of cached tokens is known on the device alone.',
      );
    }
    return { state, cache };
  }

  /** Gives up the layer's share in the rotary tables; the weights stay. Disposing twice is harmless. */
  dispose(): void {
    this.disposed = true;
    this.share.release();
  }

  [Symbol.dispose](): void {
    this.dispose();
  }
}

/** What of a cache the queries of one pass see. A pass without segments is of a cache that never had any. */
function cacheMask({ segments }: SequenceContext, { keyLength, keySegments }: CacheContext): Mask {
  return segments ? { keyLength, keySegments, segments } : { keyLength };
}
