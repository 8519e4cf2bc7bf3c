import type { TensorSpec } from '../core/shape.js';
import { assertCount, inspectCorpus, type TokenDocument } from './corpus.js';
import { type DocumentCursor, fillRow, IGNORED_TARGET, type PackedBatch, paddedBatch } from './packed-rows.js';

/** Options of {@link evaluationBatches}. */
export interface EvaluationOptions {
  /** Rows of a batch, B. */
  readonly batchSize: number;
  /** Tokens of a row, T. */
  readonly length: number;
  /** Size of the model's vocabulary: an id outside it is an error then. Default: ids are not held to one. */
  readonly vocabularySize?: number;
}

/** A corpus in batches, gone through once. */
export interface EvaluationBatches extends Iterable<PackedBatch> {
  readonly specs: Readonly<Record<string, TensorSpec>>;
  /** Number of batches. */
  readonly count: number;
  /** Tokens that are predicted in all: what a sum of losses is divided by. */
  readonly predictions: number;
}

/**
 * Packs documents in their order for an evaluation: every token but the first of its document is predicted exactly
 * once, in its own document, from what stands before it in its row. What the last batch lacks is padding: id 0,
 * segment −1, target −100. Can be iterated again and again; batches are made as they are asked for.
 *
 * @throws ZebraError `data` for an empty corpus or document, or an impossible id; `argument` for impossible options
 */
export function evaluationBatches(
  documents: readonly TokenDocument[],
  { batchSize, length, vocabularySize }: EvaluationOptions,
): EvaluationBatches {
  assertCount('evaluationBatches', 'batchSize', batchSize);
  assertCount('evaluationBatches', 'length', length);
  const { tokens } = inspectCorpus('evaluationBatches', documents, vocabularySize);
  const count = Math.ceil(tokens / (batchSize * length));
  const spec: TensorSpec = { shape: [batchSize, length], dtype: 'int32' };
  return {
    specs: { ids: spec, targets: spec, positions: spec, segments: spec },
    count,
    predictions: tokens - documents.length,
    *[Symbol.iterator]() {
      const cursor = new FiniteCursor(documents);
      for (let i = 0; i < count; i++) {
        const batch = paddedBatch(batchSize, length, IGNORED_TARGET);
        for (let row = 0; row < batchSize; row++) fillRow(batch, row, length, cursor, 'reset');
        yield batch;
      }
    },
  };
}

class FiniteCursor implements DocumentCursor {
  private readonly documents: readonly TokenDocument[];
  private index = 0;
  offset = 0;

  constructor(documents: readonly TokenDocument[]) {
    this.documents = documents;
  }

  document(): TokenDocument | undefined {
    return this.documents[this.index];
  }

  advance(tokens: number): void {
    this.offset += tokens;
    if (this.offset < this.documents[this.index]!.length) return;
    this.index++;
    this.offset = 0;
  }
}
