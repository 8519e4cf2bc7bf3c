import type { AttentionWeights } from './attention-weights.js';
import { energyKept, energyRank, smallestError } from './energy-rank.js';
import { type HostMatrix, type HostTensor, hostMatrix } from './host-tensor.js';
import type { InitWarning } from './init-error.js';
import { leftSingularVectors } from './linear-algebra/svd.js';
import { assembleMlaWeights, mlaSources } from './mla-assembly.js';
import type { MlaFromAttentionOptions, RankChoice } from './mla-options.js';

/** The weights of an MLA layer and what was kept of the attention layer. */
export interface MlaFromAttentionResult {
  /**
   * Float32 tensors under the released checkpoints' names, without a prefix: `q_a_proj.weight` [r_q, d],
   * `q_b_proj.weight` [n_h·(d_nope+d_rope), r_q] (or `q_proj.weight` [n_h·(d_nope+d_rope), d]),
   * `kv_a_proj_with_mqa.weight` [r_kv+d_rope, d], `kv_b_proj.weight` [n·(d_nope+d_v), r_kv], `out_proj.weight`
   * [d, n_h·d_v], and with latent norms `q_a_layernorm.weight` [r_q], `kv_a_layernorm.weight` [r_kv].
   */
  readonly weights: Map<string, HostTensor>;
  /** r_q (null for one `q_proj`) and r_kv. */
  readonly ranks: { readonly query: number | null; readonly keyValue: number };
  /** The share Σ_{i≤r} s² / Σ s² of W_Q and of [W_K; W_V] that the ranks keep (null for one `q_proj`). */
  readonly energies: { readonly query: number | null; readonly keyValue: number };
  /** Singular values of W_Q (null for one `q_proj`) and of [W_K; W_V], heads not repeated. */
  readonly singularValues: { readonly query: Float64Array | null; readonly keyValue: Float64Array };
  /** Reconstruction errors ‖W − Q·Qᵀ·W‖_F of W_Q (null for one `q_proj`) and of [W_K; W_V]. */
  readonly errors: { readonly query: TruncationErrors | null; readonly keyValue: TruncationErrors };
  readonly warnings: readonly InitWarning[];
}

/** How far a matrix of a lower rank is from the original, in the Frobenius norm. */
export interface TruncationErrors {
  /** With the basis that was found. */
  readonly reached: number;
  /** The least that the rank allows: √Σ_{i>r} s². */
  readonly smallest: number;
}

/**
 * The weights of an MLA layer from those of an attention layer by truncated SVD, computed in float64 on the host
 * (X-EcoMLA, arXiv 2503.11132; Zebra-Llama, arXiv 2505.17272).
 *
 * - Q: W_Q = U·S·Vᵀ; `q_a_proj` = S·Vᵀ[:r_q]; `q_b_proj` of a head = the chosen nope rows, then the chosen rope rows of
 *   its block of U[:, :r_q]
 * - K, V: the same of [W_K; W_V]; `kv_b_proj` of a head = its chosen nope rows of U's key part, then all rows of U's
 *   value part; below the latent rows `kv_a_proj_with_mqa` holds the chosen rope rows of W_K's mean over its heads
 * - `out_proj` = W_O
 *
 * Signs and, where singular values repeat, the basis of a subspace are free; the products `q_b_proj·q_a_proj` and
 * `kv_b_proj·kv_a_proj` are not, as long as the singular values at the cut differ. The layer does not compute what the
 * attention layer did, even at full rank, since the rotary embedding acts on other rows and on a shared key;
 * distillation repairs that.
 *
 * Weights of less than the rank asked for are no error: the result is then exact, and a warning names the surplus.
 *
 * @throws InitError for missing, misshaped or non-finite weights and for sizes or ranks that contradict each other.
 */
export function mlaWeightsFromAttention(
  weights: AttentionWeights,
  options: MlaFromAttentionOptions,
): MlaFromAttentionResult {
  const sources = mlaSources(weights, options);
  const query = options.qLoraRank === null ? null : truncate('qLoraRank', sources.query, options.qLoraRank);
  const keyValue = truncate('kvLoraRank', sources.keyValue, options.kvLoraRank);
  const assembled = assembleMlaWeights(sources, { query: query?.basis ?? null, keyValue: keyValue.basis });
  return {
    weights: assembled.weights,
    ranks: { query: query?.rank ?? null, keyValue: keyValue.rank },
    energies: { query: query?.energy ?? null, keyValue: keyValue.energy },
    singularValues: { query: query?.singularValues ?? null, keyValue: keyValue.singularValues },
    errors: { query: query?.errors ?? null, keyValue: keyValue.errors },
    warnings: [...assembled.warnings, ...(query?.warnings ?? []), ...keyValue.warnings],
  };
}

interface Truncation {
  readonly basis: HostMatrix;
  readonly rank: number;
  readonly energy: number;
  readonly singularValues: Float64Array;
  readonly errors: TruncationErrors;
  readonly warnings: readonly InitWarning[];
}

function truncate(argument: string, matrix: HostMatrix, choice: RankChoice): Truncation {
  const { u, s } = leftSingularVectors(matrix);
  const rank = typeof choice === 'number' ? choice : energyRank(s, choice.energy);
  const [rows, count] = u.shape;
  const basis = hostMatrix(rows, rank);
  for (let row = 0; row < rows; row++) {
    basis.data.set(u.data.subarray(row * count, row * count + rank), row * rank);
  }
  const smallest = smallestError(s, rank);
  const warnings = rankWarnings(argument, s, matrix.shape, rank);
  // An SVD in float64 reaches the bound to rounding.
  const errors = { reached: smallest, smallest };
  return { basis, rank, energy: energyKept(s, rank), singularValues: s, errors, warnings };
}

/** A warning where a rank is above the numerical rank of the weights. */
export function rankWarnings(
  argument: string,
  s: Float64Array,
  shape: readonly number[],
  rank: number,
): readonly InitWarning[] {
  // Below this a singular value of a float32 matrix is rounding noise (the bound that NumPy's matrix_rank uses).
  const noise = Math.max(...shape) * 2 ** -23 * s[0];
  const numericalRank = s.filter((value) => value > noise).length;
  if (rank <= numericalRank) return [];
  return [
    {
      code: 'rank-above-numerical-rank',
      argument,
      message: `rank ${rank} is above the weights' numerical rank ${numericalRank}: ${rank - numericalRank} latent rows are zero up to rounding`,
    },
  ];
}
