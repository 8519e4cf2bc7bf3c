import { type AttentionWeights, type LinearAttention, linearAttention } from './attention-weights.js';
import { type HostMatrix, type HostTensor, hostMatrix, toFloat32 } from './host-tensor.js';
import { InitError, type InitWarning } from './init-error.js';
import { matmul, transpose } from './linear-algebra/matrix.js';
import { checkMlaOptions, type MlaFromAttentionOptions } from './mla-options.js';
import { planMlaRows, type RowTerms } from './mla-rows.js';

/** Everything that {@link assembleMlaWeights} needs besides the bases. */
export interface MlaSources {
  /** W_Q [n_h·d_h, d]. */
  readonly query: HostMatrix;
  /** [W_K; W_V] [2·n_kv·d_h, d], heads not repeated. */
  readonly keyValue: HostMatrix;
  readonly attention: LinearAttention;
  readonly options: MlaFromAttentionOptions;
}

/**
 * Orthonormal bases, as columns, of the leading left singular subspaces of {@link MlaSources}: any such basis gives the
 * same layer, so a subspace iteration serves as well as singular vectors.
 */
export interface MlaBases {
  /** [n_h·d_h, r_q]; null for one `q_proj`. */
  readonly query: HostMatrix | null;
  /** [2·n_kv·d_h, r_kv]. */
  readonly keyValue: HostMatrix;
}

/** Checks weights and options, and gives the two matrices whose leading subspaces {@link assembleMlaWeights} needs. */
export function mlaSources(weights: AttentionWeights, options: MlaFromAttentionOptions): MlaSources {
  const operation = 'mlaWeightsFromAttention';
  const attention = linearAttention(operation, weights, options);
  checkMlaOptions(operation, options);
  const { key, value, query } = attention;
  const keyValue = hostMatrix(2 * key.shape[0], key.shape[1]);
  keyValue.data.set(key.data);
  keyValue.data.set(value.data, key.data.length);
  return { query, keyValue, attention, options };
}

/**
 * The tensors of an MLA layer (float32, under the released checkpoints' names): up-projections are rows of the bases,
 * down-projections are basisᵀ·W, so that all of Σ is in them.
 */
export function assembleMlaWeights(
  sources: MlaSources,
  bases: MlaBases,
): { weights: Map<string, HostTensor>; warnings: readonly InitWarning[] } {
  const { query, keyValue, attention, options } = sources;
  const { useLoraLayerNorm = false } = options;
  checkBasis('query', bases.query, query, options.qLoraRank === null);
  checkBasis('keyValue', bases.keyValue, keyValue, false);
  const plan = planMlaRows(options, attention.key);
  const weights = new Map<string, HostTensor>();
  const store = (name: string, tensor: HostTensor) => weights.set(name, toFloat32(tensor));

  if (bases.query === null) {
    store('q_proj.weight', gather(query, plan.query));
  } else {
    store('q_a_proj.weight', matmul(transpose(bases.query), query));
    if (useLoraLayerNorm) store('q_a_layernorm.weight', ones(bases.query.shape[1]));
    store('q_b_proj.weight', gather(bases.query, plan.query));
  }

  const latent = matmul(transpose(bases.keyValue), keyValue);
  const ropeKey = gather(attention.key, plan.ropeKey);
  const down = hostMatrix(latent.shape[0] + ropeKey.shape[0], latent.shape[1]);
  down.data.set(latent.data.map((entry) => entry * plan.latentScale));
  down.data.set(ropeKey.data, latent.data.length);
  store('kv_a_proj_with_mqa.weight', down);
  if (useLoraLayerNorm) store('kv_a_layernorm.weight', ones(latent.shape[0]));
  store('kv_b_proj.weight', gather(bases.keyValue, plan.keyValue));
  store('out_proj.weight', attention.output);
  return { weights, warnings: [...attention.warnings, ...plan.warnings] };
}

function ones(count: number): HostTensor {
  return { shape: [count], data: new Float64Array(count).fill(1) };
}

function gather(matrix: HostMatrix, rows: readonly RowTerms[]): HostMatrix {
  const columns = matrix.shape[1];
  const result = hostMatrix(rows.length, columns);
  rows.forEach((terms, to) => {
    for (const { row, scale } of terms) {
      for (let i = 0; i < columns; i++) result.data[to * columns + i] += matrix.data[row * columns + i] * scale;
    }
  });
  return result;
}

function checkBasis(name: string, basis: HostMatrix | null, matrix: HostMatrix, none: boolean): void {
  if (none ? basis === null : basis !== null && basis.shape[0] === matrix.shape[0]) return;
  throw new InitError({
    code: 'shape',
    operation: 'assembleMlaWeights',
    argument: `bases.${name}`,
    expected: none
      ? 'null, since qLoraRank is null'
      : `${matrix.shape[0]} rows, as many as the matrix it is a basis for`,
    got: basis === null ? 'null' : `shape [${basis.shape.join(', ')}]`,
    advice: 'Pass the leading left singular subspace of the matrix that mlaSources() gave, as columns.',
  });
}
