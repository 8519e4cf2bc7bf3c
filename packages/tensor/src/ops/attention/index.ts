import { type BackwardCall, defineOp, type ForwardCall, type Op } from '../../core/define-op.js';
import type { Tensor } from '../../core/tensor.js';
import { ZebraError } from '../../errors.js';
import { backward, type Call, forward } from './launch.js';
import type { MatrixTiles } from './matrix-choice.js';
import * as reference from './reference.js';
import { type AttentionAttributes, sizesOf } from './sizes.js';

export type { AttentionAttributes } from './sizes.js';

/** Options of {@link attention}. */
export interface AttentionOptions {
  /** Factor on the scores. Default 1/√Dk. */
  readonly scale?: number;
  /** Segment of each query, int32 [B,Tq]: a query attends to keys of its own segment alone. Default: one segment. */
  readonly segments?: Tensor;
  /** Segment of each key, int32 [B,Tk]. Default: `segments`, where Tq = Tk. */
  readonly keySegments?: Tensor;
  /**
   * Number of valid keys, those of the queries included, int32 [1]: data on the device, so that a recorded program
   * serves a growing cache. Bounded to [Tq, Tk] in the kernels. Default Tk.
   */
  readonly keyLength?: Tensor;
  /**
   * Dv, where only the first entries of each row of v are the value: a cache of [latent | rotary key] rows can be k and
   * v at once. Such a v has no gradient. Default: v's whole rows.
   */
  readonly valueSize?: number;
}

function callOf({
  device,
  inputs,
  attributes,
}: Pick<ForwardCall<AttentionAttributes>, 'device' | 'inputs' | 'attributes'>): Call {
  const [q, k, v, segments, keySegments, keyLength] = inputs;
  return {
    device,
    sizes: sizesOf(inputs, attributes),
    scale: attributes.scale,
    q: q!,
    k: k!,
    v: v!,
    segments,
    keySegments,
    keyLength,
  };
}

/** Attention as an operation: inputs [q, k, v, segments, keySegments, keyLength], outputs [y, lse]. */
export const attentionOp = defineOp<AttentionAttributes>({
  name: 'attention',
  shape(inputs, attributes) {
    const { batch, queries, heads, valueSize } = sizesOf(inputs, attributes);
    return [
      { shape: [batch, queries, heads, valueSize], dtype: inputs[0]!.dtype },
      { shape: [batch, heads, queries], dtype: 'float32' },
    ];
  },
  forward(call) {
    forward(callOf(call), call.outputs[0]!, call.outputs[1]!);
  },
  backward(given: BackwardCall<AttentionAttributes>) {
    const { outputs, gradients, needs } = given;
    const call = callOf(given);
    if (!gradients[0]) return [];
    if (needs[2] && call.sizes.valueSize !== call.sizes.valueWidth) {
      throw new ZebraError(
        'argument',
        `attention: v has no gradient with valueSize ${call.sizes.valueSize} below its row size ${call.sizes.valueWidth}. Slice v before, or leave it out of the gradient.`,
      );
    }
    return backward(call, outputs[0]!, outputs[1]!, gradients[0], needs);
  },
  // Scores are recomputed from all of q, k, v and the mask; Δ of the softmax's gradient from y.
  saves: { inputs: [0, 1, 2, 3, 4, 5], outputs: [0, 1] },
  reference,
});

/**
 * {@link attentionOp} with the given tiles of the kernels for matrix units, where those serve the call, for tests and
 * measurements. A tile that does not fit is an error.
 */
export function attentionWithTiles(tiles: MatrixTiles): Op<AttentionAttributes> {
  return defineOp<AttentionAttributes>({
    ...attentionOp,
    forward: (call) => forward({ ...callOf(call), tiles }, call.outputs[0]!, call.outputs[1]!),
    backward: (call) =>
      backward({ ...callOf(call), tiles }, call.outputs[0]!, call.outputs[1]!, call.gradients[0]!, call.needs),
  });
}

/**
 * Causal scaled dot-product attention with grouped heads: y = softmax(scale · q kᵀ) v over the keys at or before each
 * query. Scores are never stored: the softmax runs online (Dao et al., FlashAttention, 2022) and the gradient
 * recomputes it from the log-sum-exp of each row.
 *
 * Query t is key Tk − Tq + t (or keyLength − Tq + t); query head h uses key head ⌊h / (H / Hkv)⌋. A query always
 * attends to its own key, so padding tokens of a segment of their own give finite values. Accumulates in float32.
 *
 * @param q [B,Tq,H,Dk] float32 or float16
 * @param k [B,Tk,Hkv,Dk]; Tk ≥ Tq, new keys included
 * @param v [B,Tk,Hkv,Dv], or wider with `valueSize`; may be the same tensor as `k`
 * @returns [B,Tq,H,Dv] of q's dtype, owned by the caller
 * @throws ZebraError `shape` or `dtype` where the inputs do not fit; `argument` for a gradient of v with `valueSize`
 */
export function attention(q: Tensor, k: Tensor, v: Tensor, options: AttentionOptions = {}): Tensor {
  const { scale = (q.shape[3] ?? 1) ** -0.5, segments, keySegments, keyLength, valueSize } = options;
  const attributes: AttentionAttributes = { scale, ...(valueSize !== undefined && { valueSize }) };
  const [y, lse] = attentionOp.apply([q, k, v, segments, keySegments, keyLength], attributes);
  lse!.dispose();
  return y!;
}
