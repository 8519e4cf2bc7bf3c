import { type AttentionShape, type AttentionWeights, checkSize, linearAttention } from './attention-weights.js';
import { type HostTensor, toFloat32 } from './host-tensor.js';
import { InitError, type InitWarning } from './init-error.js';

/** What {@link mamba2WeightsFromAttention} makes. */
export interface Mamba2FromAttentionOptions extends AttentionShape {
  /** Whether the layer repeats x and B to all heads before its convolution, which is then wider. Default false. */
  readonly repeatKvBeforeConv?: boolean;
  /** Width of the convolution. Default 4. */
  readonly convWidth?: number;
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
  const { hiddenSize, headCount, keyValueHeadCount, headDim, repeatKvBeforeConv = false, convWidth = 4 } = options;
  checkSize(operation, 'convWidth', convWidth);
  const { query, key, value, output, warnings } = linearAttention(operation, weights, options);
  const uniform = uniformFrom(operation, options.random);

  const inner = headCount * headDim;
  const keyValueInner = keyValueHeadCount * headDim;
  const convDim = repeatKvBeforeConv ? 3 * inner : inner + 2 * keyValueInner;
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

  const inProjection = concatenate([gate, value.data, key.data, query.data, step]);
  const tensors: Record<string, HostTensor> = {
    'in_proj.weight': { shape: [2 * inner + 2 * keyValueInner + headCount, hiddenSize], data: inProjection },
    'conv1d.weight': { shape: [convDim, 1, convWidth], data: convWeight },
    'conv1d.bias': { shape: [convDim], data: convBias },
    dt_bias: { shape: [headCount], data: stepBias },
    A_log: { shape: [headCount], data: decay },
    D: { shape: [headCount], data: new Float64Array(headCount).fill(1) },
    'norm.weight': { shape: [inner], data: new Float64Array(inner).fill(1) },
    'out_proj.weight': { shape: [hiddenSize, inner], data: output.data },
  };
  return {
    weights: new Map(Object.entries(tensors).map(([name, tensor]) => [name, toFloat32(tensor)])),
    warnings,
  };
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
