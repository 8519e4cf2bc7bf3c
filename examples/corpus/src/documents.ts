/** The corpora that this example reads. */
export const SOURCES = ['sotu', 'moby-dick', 'wordnet'] as const;
/** `sotu`: State of the Union speeches; `moby-dick`: the novel's chapters; `wordnet`: dictionary entries. */
export type Source = (typeof SOURCES)[number];

/** One speech, one chapter or one dictionary entry. */
export interface Document {
  /** Unique and stable: `sotu/1790-george-washington`, `moby-dick/1`, `wordnet/n00001740`. */
  readonly id: string;
  readonly source: Source;
  /** Plain text with single spaces; `\n` only between the paragraphs of a chapter. Never empty. */
  readonly text: string;
}

/**
 * A 32-bit hash of a string, evenly spread (FNV-1a over UTF-16 units, finished with murmur3's mixer). It decides the
 * split and the order, so it must never change.
 */
export function hash32(text: string, seed = 0): number {
  let hash = (0x811c9dc5 ^ seed) >>> 0;
  for (let i = 0; i < text.length; i++) hash = Math.imul(hash ^ text.charCodeAt(i), 0x01000193);
  hash = Math.imul(hash ^ (hash >>> 16), 0x85ebca6b);
  hash = Math.imul(hash ^ (hash >>> 13), 0xc2b2ae35);
  return (hash ^ (hash >>> 16)) >>> 0;
}

/** A seeded source of numbers in [0, 1) (mulberry32); the same seed gives the same numbers everywhere. */
export function seededRandom(seed: number): () => number {
  let state = seed >>> 0;
  return () => {
    state = (state + 0x6d2b79f5) >>> 0;
    let mixed = Math.imul(state ^ (state >>> 15), state | 1);
    mixed ^= mixed + Math.imul(mixed ^ (mixed >>> 7), mixed | 61);
    return ((mixed ^ (mixed >>> 14)) >>> 0) / 4294967296;
  };
}
