import type { TensorSpec } from '../core/shape.js';
import { ZebraError } from '../errors.js';
import { Random } from '../random/random.js';
import type { BatchSource, JsonValue } from './batch-source.js';
import { assertCount, inspectCorpus, type TokenDocument } from './corpus.js';
import {
  type Boundaries,
  type DocumentCursor,
  fillRow,
  IGNORED_TARGET,
  type PackedBatch,
  paddedBatch,
} from './packed-rows.js';

/** Options of {@link packDocuments}. */
export interface PackOptions {
  /** Rows of a batch, B. */
  readonly batchSize: number;
  /** Tokens of a row, T. */
  readonly length: number;
  /** Seed of the documents' order; any integer. */
  readonly seed: number;
  /**
   * `reset`: documents in one row do not see each other: positions restart at 0, `segments` number the documents of the
   * row from 0, and the last token of a document predicts nothing. `run-on`: a row is one stretch of text: positions
   * 0…T−1, segments 0, and the last token of a document predicts the first of the next. Default `reset`.
   */
  readonly boundaries?: Boundaries;
  /** Size of the model's vocabulary: an id outside it is an error then. Default: ids are not held to one. */
  readonly vocabularySize?: number;
  /** A new order of the documents in every epoch. Default true; false keeps the order given. */
  readonly shuffle?: boolean;
  /** Target where nothing is predicted. Default −100. */
  readonly ignoreIndex?: number;
}

/** A source of packed batches. */
export interface PackedSource extends BatchSource {
  next(): PackedBatch;
  /** Tokens of one epoch. */
  readonly tokensPerEpoch: number;
  /** Epochs begun, counted from 0, at the token that comes next. */
  readonly epoch: number;
}

/**
 * Packs documents into full rows, endlessly: the documents of an epoch, in an order drawn from the seed and the epoch's
 * number, are strung together and cut into rows of `length` tokens; epochs follow each other without a gap. So every
 * token appears exactly once an epoch and nothing is padded. A document cut at the end of a row goes on in the next one,
 * where (with `reset`) it starts anew at position 0; the token before the cut still predicts the one after it.
 *
 * Batches are int32 [B, T]: `ids`, `targets`, `positions`, `segments`. The documents are not copied: leave them as they
 * are while the source is in use.
 *
 * @throws ZebraError `data` for an empty corpus or document, or an impossible id; `argument` for impossible options
 */
export function packDocuments(documents: readonly TokenDocument[], options: PackOptions): PackedSource {
  const { batchSize, length, seed, boundaries = 'reset', shuffle = true, ignoreIndex = IGNORED_TARGET } = options;
  assertCount('packDocuments', 'batchSize', batchSize);
  assertCount('packDocuments', 'length', length);
  if (!Number.isSafeInteger(seed)) {
    throw new ZebraError('argument', `packDocuments: seed must be an integer, got ${String(seed)}`);
  }
  if (boundaries !== 'reset' && boundaries !== 'run-on') {
    throw new ZebraError(
      'argument',
      `packDocuments: boundaries must be 'reset' or 'run-on', got ${String(boundaries)}`,
    );
  }
  const { tokens, fingerprint } = inspectCorpus('packDocuments', documents, options.vocabularySize);
  const cursor = new EndlessCursor(documents, shuffle ? seed : undefined);
  const spec: TensorSpec = { shape: [batchSize, length], dtype: 'int32' };
  const identity = { corpus: fingerprint, batchSize, length, seed, boundaries, shuffle, ignoreIndex };
  return {
    specs: { ids: spec, targets: spec, positions: spec, segments: spec },
    tokensPerEpoch: tokens,
    get epoch() {
      return cursor.place.epoch;
    },
    next() {
      const batch = paddedBatch(batchSize, length, ignoreIndex);
      for (let row = 0; row < batchSize; row++) fillRow(batch, row, length, cursor, boundaries);
      return batch;
    },
    tokensIn(batch) {
      let count = 0;
      for (const target of batch.targets!) if (target !== ignoreIndex) count++;
      return count;
    },
    state: () => ({ ...identity, ...cursor.place }),
    restore(state) {
      assertSameSource(identity, state);
      cursor.restore(state);
    },
  };
}

function assertSameSource(
  identity: Readonly<Record<string, JsonValue>>,
  state: JsonValue,
): asserts state is Readonly<Record<string, JsonValue>> {
  const given = (typeof state === 'object' && state !== null ? state : {}) as Readonly<Record<string, JsonValue>>;
  const differences = Object.entries(identity)
    .filter(([key, value]) => given[key] !== value)
    .map(([key, value]) => `${key} was ${JSON.stringify(given[key])}, is ${JSON.stringify(value)}`);
  if (differences.length > 0) {
    throw new ZebraError(
      'data',
      `packDocuments: the saved state belongs to other data: ${differences.join('; ')}. Resume with the documents and options that the run began with.`,
    );
  }
}

/** A place in the endless stream. */
interface Place {
  readonly epoch: number;
  /** Documents of the epoch that lie behind. */
  readonly document: number;
  /** Tokens of the current document that lie behind. */
  readonly offset: number;
}

class EndlessCursor implements DocumentCursor {
  private readonly documents: readonly TokenDocument[];
  private readonly seed: number | undefined;
  private readonly order: number[];
  private orderedEpoch = -1;
  place: Place = { epoch: 0, document: 0, offset: 0 };

  constructor(documents: readonly TokenDocument[], seed: number | undefined) {
    this.documents = documents;
    this.seed = seed;
    this.order = documents.map((_, index) => index);
  }

  get offset(): number {
    return this.place.offset;
  }

  document(): TokenDocument {
    if (this.orderedEpoch !== this.place.epoch) this.reorder();
    return this.documents[this.order[this.place.document]!]!;
  }

  advance(tokens: number): void {
    const { epoch, document, offset } = this.place;
    if (offset + tokens < this.document().length) this.place = { epoch, document, offset: offset + tokens };
    else if (document + 1 < this.documents.length) this.place = { epoch, document: document + 1, offset: 0 };
    else this.place = { epoch: epoch + 1, document: 0, offset: 0 };
  }

  restore(state: Readonly<Record<string, JsonValue>>): void {
    const { epoch, document, offset } = state as unknown as Place;
    const isIndex = (value: unknown, end: number) =>
      Number.isSafeInteger(value) && Number(value) >= 0 && Number(value) < end;
    const before = this.place;
    if (isIndex(epoch, Number.POSITIVE_INFINITY) && isIndex(document, this.documents.length)) {
      this.place = { epoch, document, offset };
      if (isIndex(offset, this.document().length)) return;
      this.place = before;
    }
    throw new ZebraError(
      'data',
      `packDocuments: the saved state names no place in the corpus: epoch ${epoch}, document ${document}, token ${offset}`,
    );
  }

  /** The order is a function of seed and epoch alone, so that a resumed run needs no history. */
  private reorder(): void {
    const { epoch } = this.place;
    this.orderedEpoch = epoch;
    if (this.seed === undefined) return;
    for (let i = 0; i < this.order.length; i++) this.order[i] = i;
    Random.forEpoch(this.seed, epoch).shuffle(this.order);
  }
}
