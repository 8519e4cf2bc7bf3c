import { Random, type TensorSpec, ZebraError } from '@zebra/tensor';
import { type Batch, type BatchSource, IGNORED_TARGET, type JsonValue } from '@zebra/tensor/train';
import type { ReferenceLogProbabilities } from './log-probabilities.js';
import { encodePair, type PairLimits, type PairRow, type PreferencePair, padRows } from './pairs.js';

/** Options of {@link pairBatches}. */
export interface PairBatchOptions extends PairLimits {
  /** Pairs a batch, P. */
  readonly batchSize: number;
  /** Seed of the pairs' order; any integer. */
  readonly seed: number;
  /** A new order of the pairs in every epoch. Default true; false keeps the order given. */
  readonly shuffle?: boolean;
}

/** A source of preference batches. */
export interface PairSource extends BatchSource {
  /** Tokens of a row, T: the longest response with its prompt. */
  readonly length: number;
}

/**
 * Batches of preference pairs for the trainer, endless and resumable. A batch holds the P chosen rows, then the P
 * rejected ones, padded on the right: `ids`, `targets`, `positions`, `segments`, int32 [2P, T]; and the reference's
 * log-probabilities of whole responses, `referenceChosen` and `referenceRejected`, float32 [P], in nats.
 *
 * @param references one a pair, as `scorePairs()` gives them
 * @throws ZebraError `argument` without pairs, for references of another number, or for impossible options
 */
export function pairBatches(
  pairs: readonly PreferencePair[],
  references: readonly ReferenceLogProbabilities[],
  options: PairBatchOptions,
): PairSource {
  const { batchSize, seed, shuffle = true, endToken } = options;
  if (pairs.length === 0) throw new ZebraError('argument', 'pairBatches: no pairs given');
  if (references.length !== pairs.length) {
    throw new ZebraError('argument', `pairBatches: ${pairs.length} pairs came with ${references.length} references`);
  }
  if (!Number.isSafeInteger(batchSize) || batchSize < 1) {
    throw new ZebraError('argument', `pairBatches: batchSize must be a positive integer, got ${batchSize}`);
  }
  if (!Number.isSafeInteger(seed)) {
    throw new ZebraError('argument', `pairBatches: seed must be an integer, got ${seed}`);
  }
  const encoded = pairs.map((pair) => encodePair(pair, options));
  const length = Math.max(...encoded.flatMap(({ chosen, rejected }) => [chosen.ids.length, rejected.ids.length]));
  const tokens: TensorSpec = { shape: [2 * batchSize, length], dtype: 'int32' };
  const scores: TensorSpec = { shape: [batchSize], dtype: 'float32' };
  const identity = { pairs: fingerprint(encoded), count: pairs.length, batchSize, seed, shuffle };
  const order = new PairOrder(pairs.length, shuffle ? seed : undefined);
  return {
    length,
    specs: {
      ids: tokens,
      targets: tokens,
      positions: tokens,
      segments: tokens,
      referenceChosen: scores,
      referenceRejected: scores,
    },
    next(): Batch {
      const drawn = Array.from({ length: batchSize }, () => order.next());
      const rows = (['chosen', 'rejected'] as const).flatMap((side) => drawn.map((index) => encoded[index]![side]));
      return {
        ...padRows(rows, length, endToken),
        referenceChosen: Float32Array.from(drawn, (index) => references[index]!.chosen),
        referenceRejected: Float32Array.from(drawn, (index) => references[index]!.rejected),
      };
    },
    tokensIn: (batch) => countTargets(batch.targets as Int32Array),
    state: () => ({ ...identity, taken: order.taken }),
    restore(state) {
      const given = (typeof state === 'object' && state !== null ? state : {}) as Readonly<Record<string, JsonValue>>;
      const different = Object.entries(identity).filter(([key, value]) => given[key] !== value);
      const taken = given.taken;
      if (different.length > 0 || !Number.isSafeInteger(taken) || Number(taken) < 0) {
        throw new ZebraError(
          'data',
          `pairBatches: the saved state belongs to other data (${different.map(([key]) => key).join(', ') || 'taken'}). Resume with the pairs and options that the run began with.`,
        );
      }
      order.taken = Number(taken);
    },
  };
}

/** The endless order of pairs: a function of the seed and of how many were taken, so that a resumed run needs no history. */
class PairOrder {
  taken = 0;
  private readonly order: number[];
  private readonly seed: number | undefined;
  private epoch = -1;

  constructor(count: number, seed: number | undefined) {
    this.order = Array.from({ length: count }, (_, index) => index);
    this.seed = seed;
  }

  next(): number {
    const { order, seed } = this;
    const epoch = Math.floor(this.taken / order.length);
    if (seed !== undefined && epoch !== this.epoch) {
      for (let i = 0; i < order.length; i++) order[i] = i;
      Random.forEpoch(seed, epoch).shuffle(order);
      this.epoch = epoch;
    }
    return order[this.taken++ % order.length] as number;
  }
}

function countTargets(targets: Int32Array): number {
  let count = 0;
  for (const target of targets) if (target !== IGNORED_TARGET) count++;
  return count;
}

/** A hash of all rows (FNV-1a, 32 bits), to know the pairs again: a guard against mistakes, not against attackers. */
function fingerprint(encoded: readonly { readonly chosen: PairRow; readonly rejected: PairRow }[]): number {
  let hash = 0x811c9dc5;
  for (const { chosen, rejected } of encoded) {
    for (const row of [chosen, rejected]) {
      for (const id of [row.ids.length, ...row.ids, ...row.targets]) hash = Math.imul(hash ^ id, 0x01000193);
    }
  }
  return hash >>> 0;
}
