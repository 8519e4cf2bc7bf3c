import { type AttentionShape, type AttentionWeights, checkSize, linearAttention } from './attention-weights.js';
import { type HostMatrix, type HostTensor, hostMatrix, toFloat32 } from './host-tensor.js';
import { InitError, type InitWarning } from './init-error.js';

/** What {@link mamba2WeightsFromAttention} makes. */
export interface Mamba2FromAttentionOptions extends AttentionShape {
  /** Whether the layer repeats x and B to all heads before its convolution, which is then wider. Default false. */
  readonly repeatKvBeforeConv?: boolean;
  /** Width of the convolution. Default 4. */
  readonly convWidth?: number;
  /**
   * What becomes of biases of q, k and v (Qwen2): dropped with a warning, as they have no place in `in_proj`, or folded
   * into `conv1d.bias` (see {@link foldBiases}), which is ours, not a source's. Default `drop`.
   */
  readonly biases?: 'drop' | 'fold';
  /** A seeded generator of uniform numbers in [0, 1): everything that the attention layer cannot supply comes from it. */
  readonly random: () => number;
}

/** The weights of a Mamba2 layer. */
export interface Mamba2FromAttentionResult {
  /** Float32 tensors under the released checkpoints' names, without a prefix. */
  readonly weights: Map<string, HostTensor>;
  readonly warnings: readonly InitWarning[];
}

/**
 * The weights of a Mamba2 layer from those of an attention layer (MambaInLlama, arXiv 2408.15237): x ← W_V, B ← W_K,
 * C ← W_Q, output ← W_O. With d_inner = n_h·d_h and d_xb = n_kv·d_h:
 *
 * - `in_proj.weight` [2·d_inner + 2·d_xb + n_h, d], rows z, x, B, C, dt; z and dt from U(±1/√d)
 * - `conv1d.weight` [conv_dim, 1, width], `conv1d.bias` [conv_dim] from U(±1/√width), conv_dim = d_inner + 2·d_xb, or
 *   3·d_inner with `repeatKvBeforeConv`
 * - `dt_bias` [n_h] = softplus⁻¹(max(exp U(ln 1e-3, ln 0.1), 1e-4))
 * - `A_log` [n_h] = ln U(1, 16); `D` [n_h] = 1; `norm.weight` [d_inner] = 1
 * - `out_proj.weight` [d, d_inner]
 *
 * Numbers are drawn in the order z, dt (of in_proj), convolution weight, convolution bias, dt_bias, A_log, row-major:
 * the same generator gives the same layer. Biases and query/key norms are treated as {@link linearAttention} says.
 *
 * @throws InitError for missing, misshaped or non-finite weights, sizes that contradict each other, or a generator that
 * leaves [0, 1).
 */
export function mamba2WeightsFromAttention(
  weights: AttentionWeights,
  options: Mamba2FromAttentionOptions,
): Mamba2FromAttentionResult {
  const operation = 'mamba2WeightsFromAttention';
  const { hiddenSize, biases = 'drop' } = options;
  const { query, key, value, output, warnings } = linearAttention(operation, weights, asMamba2Takes(options));
  const { gate, step, ...fresh } = drawMamba2(operation, options);
  const inProjection = concatenate([gate.data, value.data, key.data, query.data, step.data]);
  const tensors: Record<string, HostTensor> = {
    'in_proj.weight': { shape: [inProjection.length / hiddenSize, hiddenSize], data: inProjection },
    ...fresh.tensors,
    'out_proj.weight': { shape: output.shape, data: output.data },
  };
  const folded = biases === 'fold' ? foldBiases(tensors, weights, options) : [];
  return {
    weights: new Map(Object.entries(tensors).map(([name, tensor]) => [name, toFloat32(tensor)])),
    warnings: withFolded(warnings, folded),
  };
}

/**
 * With `raw` as the default of `queryKeyScale`: on a small trained Qwen3, KL to the teacher after the same distillation
 * was 0.059 nats with `raw` and 0.069 with `expected` (for MLA 0.088 and 0.017).
 */
export function asMamba2Takes(options: Mamba2FromAttentionOptions): Mamba2FromAttentionOptions {
  return { ...options, queryKeyScale: options.queryKeyScale ?? 'raw' };
}

/** What attention cannot supply to a Mamba2 layer, drawn in float64. */
export interface FreshMamba2 {
  /** The first rows of `in_proj`, z [d_inner, d]. */
  readonly gate: HostMatrix;
  /** The last rows of `in_proj`, dt [n_h, d]. */
  readonly step: HostMatrix;
  /** Every other weight but `out_proj.weight`, by name. */
  readonly tensors: Readonly<Record<string, HostTensor>>;
}

/** Draws what {@link mamba2WeightsFromAttention} says, in its order. */
export function drawMamba2(operation: string, options: Mamba2FromAttentionOptions): FreshMamba2 {
  const { hiddenSize, headCount, keyValueHeadCount, headDim, repeatKvBeforeConv = false, convWidth = 4 } = options;
  checkSize(operation, 'convWidth', convWidth);
  const uniform = uniformFrom(operation, options.random);
  const inner = headCount * headDim;
  const convDim = repeatKvBeforeConv ? 3 * inner : inner + 2 * keyValueHeadCount * headDim;
  const rowBound = 1 / Math.sqrt(hiddenSize);
  const convBound = 1 / Math.sqrt(convWidth);
  const gate = uniform(inner * hiddenSize, -rowBound, rowBound);
  const step = uniform(headCount * hiddenSize, -rowBound, rowBound);
  const convWeight = uniform(convDim * convWidth, -convBound, convBound);
  const convBias = uniform(convDim, -convBound, convBound);
  const stepBias = uniform(headCount, Math.log(1e-3), Math.log(0.1)).map((logStep) => {
    const target = Math.max(Math.exp(logStep), 1e-4);
    // softplus⁻¹(t) = ln(eᵗ − 1) = t + ln(1 − e⁻ᵗ)
    return target + Math.log(-Math.expm1(-target));
  });
  const decay = uniform(headCount, 1, 16).map(Math.log);
  return {
    gate: hostMatrix(inner, hiddenSize, gate),
    step: hostMatrix(headCount, hiddenSize, step),
    tensors: {
      'conv1d.weight': { shape: [convDim, 1, convWidth], data: convWeight },
      'conv1d.bias': { shape: [convDim], data: convBias },
      dt_bias: { shape: [headCount], data: stepBias },
      A_log: { shape: [headCount], data: decay },
      D: { shape: [headCount], data: new Float64Array(headCount).fill(1) },
      'norm.weight': { shape: [inner], data: new Float64Array(inner).fill(1) },
    },
  };
}

/**
 * Adds to `conv1d.bias` what the convolution makes of constant inputs v, k and q biases: (Σ over its taps)·bias for each
 * channel. From the fourth token of a sequence on this is exactly what a bias of `in_proj` would do. That of `o_proj` has no place.
 *
 * @returns the names of the biases folded
 */
export function foldBiases(
  tensors: Readonly<Record<string, HostTensor>>,
  weights: AttentionWeights,
  { headCount, keyValueHeadCount, headDim, repeatKvBeforeConv = false }: Mamba2FromAttentionOptions,
): string[] {
  const { shape, data: taps } = tensors['conv1d.weight'];
  const bias = tensors['conv1d.bias'].data;
  const width = shape[2];
  const repeats = repeatKvBeforeConv ? headCount / keyValueHeadCount : 1;
  const folded: string[] = [];
  let channel = 0;
  for (const [letter, copies] of [
    ['v', repeats],
    ['k', repeats],
    ['q', 1],
  ] as const) {
    const name = `${letter}_proj.bias`;
    const added = weights[name]?.data;
    const count = (letter === 'q' ? headCount : keyValueHeadCount) * headDim * copies;
    for (let i = 0; added && i < count; i++) {
      const head = Math.floor(i / headDim / copies);
      let sum = 0;
      for (let t = 0; t < width; t++) sum += taps[(channel + i) * width + t];
      bias[channel + i] += sum * added[head * headDim + (i % headDim)];
    }
    channel += count;
    if (added) folded.push(name);
  }
  return folded;
}

/** The warnings, where a bias that was folded after all says so. */
export function withFolded(warnings: readonly InitWarning[], folded: readonly string[]): InitWarning[] {
  return warnings.map((warning) =>
    warning.code === 'bias-dropped' && folded.includes(warning.argument)
      ? {
          code: 'bias-folded',
          argument: warning.argument,
          message: `${warning.argument} is folded into conv1d.bias; it differs for the first tokens of a sequence`,
        }
      : warning,
  );
}

type Uniform = (count: number, low: number, high: number) => Float64Array;

function uniformFrom(operation: string, random: () => number): Uniform {
  return (count, low, high) =>
    Float64Array.from({ length: count }, () => {
      const draw = random();
      if (!(draw >= 0 && draw < 1)) {
        throw new InitError({
          code: 'argument',
          operation,
          argument: 'random',
          expected: 'numbers in [0, 1)',
          got: String(draw),
          advice: 'Pass a generator that behaves as Math.random, such as a seeded one.',
        });
      }
      return low + (high - low) * draw;
    });
}

function concatenate(parts: readonly Float64Array[]): Float64Array {
  const result = new Float64Array(parts.reduce((sum, part) => sum + part.length, 0));
  let at = 0;
  for (const part of parts) {
    result.set(part, at);
    at += part.length;
  }
  return result;
}
