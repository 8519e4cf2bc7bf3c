import type { Source } from './documents.js';

/** One split as tokens. Document i is `ids.subarray(offsets[i], offsets[i + 1])`: BOS, its text, EOS. */
export interface TokenizedSplit {
  readonly ids: Uint16Array;
  /** One more than there are documents. */
  readonly offsets: Uint32Array;
  /** The documents, as views of `ids`. */
  readonly documents: readonly Uint16Array[];
  /** Each document's source. */
  readonly sources: readonly Source[];
  /** UTF-8 bytes of each document's text (of a cut document: of the tokens it kept). */
  readonly bytes: Uint32Array;
}

/** Puts the arrays of a split together and cuts the views of its documents. */
export function view(ids: Uint16Array, offsets: Uint32Array, sources: Source[], bytes: Uint32Array): TokenizedSplit {
  const documents = sources.map((_, i) => ids.subarray(offsets[i], offsets[i + 1]));
  return { ids, offsets, documents, sources, bytes };
}
