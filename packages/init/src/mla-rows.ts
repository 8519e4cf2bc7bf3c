import type { HostMatrix } from './host-tensor.js';
import type { InitWarning } from './init-error.js';
import { chooseRopeRows, type MlaFromAttentionOptions } from './mla-options.js';
import { alignKeyHeads } from './rope-alignment.js';
import type { RopeRowChoice } from './rope-rows.js';

/** A row of a new matrix: the sum of these rows of another, each scaled. No terms: zeros. */
export type RowTerms = readonly { readonly row: number; readonly scale: number }[];

/** Which rows of what the weights of an MLA layer are, on the host and on a device alike. */
export interface MlaRowPlan {
  /** The queries' rows, in rows of W_Q or of its basis. */
  readonly query: readonly RowTerms[];
  /** The shared rotary key's rows, in rows of W_K. */
  readonly ropeKey: readonly RowTerms[];
  /** The rows of `kv_b_proj`, in rows of the basis of [W_K; W_V]. */
  readonly keyValue: readonly RowTerms[];
  /** Factor of the latent rows of `kv_a_proj_with_mqa`. */
  readonly latentScale: number;
  readonly warnings: readonly InitWarning[];
}

/**
 * Plans the rows. Stacking n_h instead of n_kv heads, as `useFullKvHead` does, multiplies every singular value by √g,
 * divides the rows of U by √g and repeats them, with g = n_h/n_kv; so the smaller stack is decomposed in either case.
 *
 * @param key W_K, which only `sharedRopeKey: 'aligned'` looks at
 */
export function planMlaRows(options: MlaFromAttentionOptions, key: HostMatrix | undefined): MlaRowPlan {
  const { headCount, keyValueHeadCount, headDim, useFullKvHead = false } = options;
  const choice = chooseRopeRows(options);
  const groupSize = headCount / keyValueHeadCount;
  const ropeTerms = ropeRowTerms(options, key, choice);
  const query = heads(headCount).flatMap((head) => {
    const start = head * headDim;
    return [...choice.queryNope.map((row) => [{ row, scale: 1 }]), ...ropeTerms[Math.floor(head / groupSize)]].map(
      (terms) => terms.map(({ row, scale }) => ({ row: start + row, scale })),
    );
  });
  // The one key that all heads share is the mean of their rows.
  const ropeKey = ropeTerms[0].map((_, i) =>
    ropeTerms.flatMap((rowTerms, head) =>
      rowTerms[i].map(({ row, scale }) => ({ row: head * headDim + row, scale: scale / keyValueHeadCount })),
    ),
  );
  const repeats = useFullKvHead ? groupSize : 1;
  const valueStart = keyValueHeadCount * headDim;
  const scale = 1 / Math.sqrt(repeats);
  const keyValue = heads(keyValueHeadCount * repeats).flatMap((copy) => {
    const start = Math.floor(copy / repeats) * headDim;
    return [
      ...choice.keyNope.map((row) => (row < 0 ? [] : [{ row: start + row, scale }])),
      ...Array.from({ length: headDim }, (_, row) => [{ row: valueStart + start + row, scale }]),
    ];
  });
  return { query, ropeKey, keyValue, latentScale: Math.sqrt(repeats), warnings: choice.warnings };
}

function heads(count: number): number[] {
  return Array.from({ length: count }, (_, head) => head);
}

/** For every key head its rope rows as terms in the rows of a head: copies, or pairs turned towards the other heads. */
function ropeRowTerms(
  { keyValueHeadCount, sharedRopeKey }: MlaFromAttentionOptions,
  key: HostMatrix | undefined,
  { rope, ropeScale }: RopeRowChoice,
): RowTerms[][] {
  if (sharedRopeKey !== 'aligned' || !key) {
    return heads(keyValueHeadCount).map(() => rope.map((row) => [{ row, scale: ropeScale }]));
  }
  const pairs = Array.from({ length: rope.length / 2 }, (_, i) => [rope[2 * i], rope[2 * i + 1]] as const);
  const turns = alignKeyHeads(key, keyValueHeadCount, pairs);
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
