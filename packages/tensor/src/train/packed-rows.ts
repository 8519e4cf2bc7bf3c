import { IGNORE_INDEX } from '../ops/vocabulary/index.js';
import type { TokenDocument } from './corpus.js';

/** Where no token is predicted; what losses leave out. */
export const IGNORED_TARGET = IGNORE_INDEX;

/** Segment of padding. */
export const PADDING_SEGMENT = -1;

/** How documents meet inside a row. */
export type Boundaries = 'reset' | 'run-on';

/** The arrays of a packed batch, [B, T] each, row-major. */
export interface PackedBatch {
  readonly ids: Int32Array;
  /** The token after each, or the ignored index. */
  readonly targets: Int32Array;
  readonly positions: Int32Array;
  readonly segments: Int32Array;
  readonly [name: string]: Int32Array;
}

/** A place in a stream of documents. */
export interface DocumentCursor {
  /** The document at this place, undefined past the end. */
  document(): TokenDocument | undefined;
  /** Tokens of that document that lie behind. */
  readonly offset: number;
  /** Moves on by some tokens of the document, and at its end to the next one. */
  advance(tokens: number): void;
}

/** A batch that is all padding. */
export function paddedBatch(batchSize: number, length: number, ignoreIndex: number): PackedBatch {
  const size = batchSize * length;
  return {
    ids: new Int32Array(size),
    targets: new Int32Array(size).fill(ignoreIndex),
    positions: new Int32Array(size),
    segments: new Int32Array(size).fill(PADDING_SEGMENT),
  };
}

/** Fills one row of a batch from a stream; stops where the stream ends. */
export function fillRow(
  batch: PackedBatch,
  row: number,
  length: number,
  cursor: DocumentCursor,
  boundaries: Boundaries,
): void {
  const reset = boundaries === 'reset';
  let segment = 0;
  for (let filled = 0; filled < length; segment++) {
    const document = cursor.document();
    if (!document) return;
    const { offset } = cursor;
    const take = Math.min(document.length - offset, length - filled);
    const at = row * length + filled;
    for (let i = 0; i < take; i++) {
      batch.ids[at + i] = document[offset + i]!;
      batch.positions[at + i] = reset ? i : filled + i;
      batch.segments[at + i] = reset ? segment : 0;
      if (i + 1 < take) batch.targets[at + i] = document[offset + i + 1]!;
    }
    cursor.advance(take);
    // The token after the last one taken: of the same document in the next row, or of the next document.
    const next = offset + take < document.length ? document[offset + take] : reset ? undefined : cursor.document()?.[0];
    if (next !== undefined) batch.targets[at + take - 1] = next;
    filled += take;
  }
}
