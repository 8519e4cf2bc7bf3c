import { type AttentionWeights, type LinearAttention, linearAttention } from './attention-weights.js';
import { type HostMatrix, type HostTensor, hostMatrix, toFloat32 } from './host-tensor.js';
import { InitError, type InitWarning } from './init-error.js';
import { matmul, transpose } from './linear-algebra/matrix.js';
import { checkMlaOptions, chooseRopeRows, type MlaFromAttentionOptions } from './mla-options.js';
import { alignKeyHeads } from './rope-alignment.js';
import type { RopeRowChoice } from './rope-rows.js';

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
 *
 * Stacking n_h instead of n_kv heads, as `useFullKvHead` does, multiplies every singular value by √g, divides the rows
 * of U by √g and repeats them, with g = n_h/n_kv; so the smaller stack is decomposed in either case.
 */
export function assembleMlaWeights(
  sources: MlaSources,
  bases: MlaBases,
): { weights: Map<string, HostTensor>; warnings: readonly InitWarning[] } {
  const { query, keyValue, attention, options } = sources;
  const { headCount, keyValueHeadCount, headDim, useFullKvHead = false, useLoraLayerNorm = false } = options;
  checkBasis('query', bases.query, query, options.qLoraRank === null);
  checkBasis('keyValue', bases.keyValue, keyValue, false);
  const choice = chooseRopeRows(options);
  const weights = new Map<string, HostTensor>();
  const store = (name: string, tensor: HostTensor) => weights.set(name, toFloat32(tensor));

  const groupSize = headCount / keyValueHeadCount;
  const ropeTerms = ropeRowTerms(sources, choice);
  const queryRows = heads(headCount).flatMap((head) => {
    const start = head * headDim;
    return [...choice.queryNope.map((row) => [{ row, scale: 1 }]), ...ropeTerms[Math.floor(head / groupSize)]].map(
      (terms) => terms.map(({ row, scale }) => ({ row: start + row, scale })),
    );
  });
  if (bases.query === null) {
    store('q_proj.weight', gather(query, queryRows));
  } else {
    store('q_a_proj.weight', matmul(transpose(bases.query), query));
    if (useLoraLayerNorm) store('q_a_layernorm.weight', ones(bases.query.shape[1]));
    store('q_b_proj.weight', gather(bases.query, queryRows));
  }

  const repeats = useFullKvHead ? groupSize : 1;
  const valueStart = keyValueHeadCount * headDim;
  const latent = matmul(transpose(bases.keyValue), keyValue);
  const ropeKey = meanHeadRows(attention.key, ropeTerms);
  const down = hostMatrix(latent.shape[0] + ropeKey.shape[0], latent.shape[1]);
  down.data.set(latent.data.map((entry) => entry * Math.sqrt(repeats)));
  down.data.set(ropeKey.data, latent.data.length);
  store('kv_a_proj_with_mqa.weight', down);
  if (useLoraLayerNorm) store('kv_a_layernorm.weight', ones(latent.shape[0]));
  const scale = 1 / Math.sqrt(repeats);
  const keyValueRows = heads(keyValueHeadCount * repeats).flatMap((copy) => {
    const start = Math.floor(copy / repeats) * headDim;
    return [
      ...choice.keyNope.map((row) => (row < 0 ? [] : [{ row: start + row, scale }])),
      ...Array.from({ length: headDim }, (_, row) => [{ row: valueStart + start + row, scale }]),
    ];
  });
  store('kv_b_proj.weight', gather(bases.keyValue, keyValueRows));
  store('out_proj.weight', attention.output);
  return { weights, warnings: [...attention.warnings, ...choice.warnings] };
}

function heads(count: number): number[] {
  return Array.from({ length: count }, (_, head) => head);
}

function ones(count: number): HostTensor {
  return { shape: [count], data: new Float64Array(count).fill(1) };
}

/** A row of a new matrix: the sum of these rows of another, each scaled. No terms: zeros. */
type RowTerms = readonly { readonly row: number; readonly scale: number }[];

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

/** For every key head its rope rows as terms in the rows of a head: copies, or pairs turned towards the other heads. */
function ropeRowTerms({ attention, options }: MlaSources, { rope, ropeScale }: RopeRowChoice): RowTerms[][] {
  const { keyValueHeadCount, sharedRopeKey } = options;
  if (sharedRopeKey !== 'aligned') {
    return heads(keyValueHeadCount).map(() => rope.map((row) => [{ row, scale: ropeScale }]));
  }
  const pairs = Array.from({ length: rope.length / 2 }, (_, i) => [rope[2 * i], rope[2 * i + 1]] as const);
  const turns = alignKeyHeads(attention.key, keyValueHeadCount, pairs);
  return heads(keyValueHeadCount).map((head) =>
    pairs.flatMap(([x, y], i) => {
      const real = turns[i][head].real * ropeScale;
      const imaginary = turns[i][head].imaginary * ropeScale;
      // (real + i·imaginary)·(x + iy)
      return [
        [
          { row: x, scale: real },
          { row: y, scale: -imaginary },
        ],
        [
          { row: y, scale: real },
          { row: x, scale: imaginary },
        ],
      ];
    }),
  );
}

/** The rope rows of every key head, averaged: the one key that all heads share. */
function meanHeadRows(key: HostMatrix, headTerms: readonly (readonly RowTerms[])[]): HostMatrix {
  const headCount = headTerms.length;
  const headDim = key.shape[0] / headCount;
  const rows = headTerms[0].map((_, i) =>
    headTerms.flatMap((rowTerms, head) =>
      rowTerms[i].map(({ row, scale }) => ({ row: head * headDim + row, scale: scale / headCount })),
    ),
  );
  return gather(key, rows);
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
