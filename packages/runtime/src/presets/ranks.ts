import type { TransformerConfig } from '../config/index.js';

/** Ranks of MLA layers that fit a Transformer. */
export interface ProposedRanks {
  /** r_q, or null for one full projection. */
  readonly qLoraRank: number | null;
  /** r_kv */
  readonly kvLoraRank: number;
}

/** Up to this hidden size the queries' rank spends what the teacher's attention spends. */
const SMALL_HIDDEN_SIZE = 2048;

/**
 * Ranks for a Transformer's MLA layers. Nobody has published a rule: these two are ours, the simplest found that give
 * the published ranks of all three sizes (1344 and 128, 1536 and 128, 2048 and 160), and a starting point elsewhere.
 *
 * - r_kv = 5/128 of the hidden size d, rounded up to a multiple of 32, at least 128, but no more than a quarter of
 *   n_kv·d_h.
 * - r_q, for d above 2048: the rank at which the two query projections together are as large as the teacher's one,
 *   d·n_h·d_h/(d + n_h·(d_nope + d_rope)), which is d/2 where n_h·d_h = d; to the nearest multiple of 64.
 * - r_q, for d up to 2048: as many as fit if the layer's projections of queries, keys and values, with keys and values
 *   counted for all n_h heads, are to be no larger than the teacher's, rounded down to a multiple of 64. Where
 *   that reaches the full rank, min(d, n_h·(d_nope + d_rope)), one full projection, which can do the same with less.
 *
 * Ranks too small for these multiples are rounded to multiples of 8, and are at least 8.
 */
export function proposeRanks(
  transformer: TransformerConfig,
  headDims: { readonly rope: number; readonly nope: number; readonly v: number },
): ProposedRanks {
  const { hiddenSize, headCount, keyValueHeadCount, headDim } = transformer;
  const innerSize = headCount * headDim;
  const xbSize = keyValueHeadCount * headDim;
  const kvLoraRank = atLeast8(Math.min(Math.max(128, 32 * Math.ceil((5 * hiddenSize) / 128 / 32)), xbSize / 4));
  const queryWidth = headCount * (headDims.nope + headDims.rope);
  const perRank = hiddenSize + queryWidth;
  if (hiddenSize > SMALL_HIDDEN_SIZE) {
    return { qLoraRank: coarse((hiddenSize * innerSize) / perRank, Math.round), kvLoraRank };
  }
  const teacher = hiddenSize * (innerSize + 2 * xbSize);
  const down = (kvLoraRank + headDims.rope) * hiddenSize;
  const up = headCount * (headDims.nope + headDims.v) * kvLoraRank;
  const qLoraRank = coarse((teacher - down - up) / perRank, Math.floor);
  return { qLoraRank: qLoraRank < Math.min(hiddenSize, queryWidth) ? qLoraRank : null, kvLoraRank };
}

function coarse(rank: number, round: (value: number) => number): number {
  return rank >= 128 ? 64 * round(rank / 64) : atLeast8(rank);
}

function atLeast8(rank: number): number {
  return Math.max(8, 8 * Math.floor(rank / 8));
}
