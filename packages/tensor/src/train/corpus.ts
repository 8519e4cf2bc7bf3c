import { ZebraError } from '../errors.js';

/** Token ids of one document. */
export type TokenDocument = Uint16Array | Int32Array | readonly number[];

/** What is known of a corpus after one pass over it. */
export interface CorpusFacts {
  readonly tokens: number;
  /** Hash of all tokens and boundaries, to know the corpus again when a run is resumed. */
  readonly fingerprint: string;
}

/**
 * Checks a corpus and takes its fingerprint (two interleaved FNV-1a hashes of 32 bits; a guard against mistakes, not
 * against attackers).
 *
 * @throws ZebraError `data` for an empty corpus, an empty document, an id that is no id, or no document of two tokens
 */
export function inspectCorpus(
  operation: string,
  documents: readonly TokenDocument[],
  vocabularySize = 2 ** 31,
): CorpusFacts {
  if (documents.length === 0) throw new ZebraError('data', `${operation}: the corpus has no documents`);
  let tokens = 0;
  let longest = 0;
  let a = 0x811c9dc5;
  let b = 0x9e3779b9;
  documents.forEach((document, index) => {
    const { length } = document;
    if (length === 0) {
      throw new ZebraError('data', `${operation}: document ${index} is empty. Leave empty documents out.`);
    }
    for (let i = 0; i < length; i++) {
      const id = document[i]!;
      if (!(id >= 0 && id < vocabularySize && Number.isInteger(id))) {
        throw new ZebraError(
          'data',
          `${operation}: document ${index} has ${id} at position ${i}; token ids are integers from 0 to ${vocabularySize - 1}. Were they made with this model's tokenizer?`,
        );
      }
      a = Math.imul(a ^ id, 0x01000193);
      b = Math.imul(b ^ (id + i), 0x85ebca6b);
      b ^= b >>> 15;
    }
    a = Math.imul(a ^ length, 0x01000193);
    tokens += length;
    longest = Math.max(longest, length);
  });
  if (longest < 2) {
    throw new ZebraError('data', `${operation}: every document has one token, so that there is none to predict`);
  }
  const hex = (word: number) => (word >>> 0).toString(16).padStart(8, '0');
  return { tokens, fingerprint: `${documents.length}-${tokens}-${hex(a)}${hex(b)}` };
}

/** Throws ZebraError `argument` unless a number is an integer of at least `least`. */
export function assertCount(operation: string, argument: string, value: number, least = 1): void {
  if (!Number.isSafeInteger(value) || value < least) {
    throw new ZebraError(
      'argument',
      `${operation}: ${argument} must be an integer of at least ${least}, got ${String(value)}`,
    );
  }
}
