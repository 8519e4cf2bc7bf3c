/** Counts of one order, each with the totals of its contexts. */
export interface Level {
  /** The count of token `next` after context `context` (a packed number, 0 for order 1). */
  count(context: number, next: number): number;
  /** Sum of the counts after each context. */
  readonly totals: Float64Array;
  /** How many tokens were counted once, twice, and three times or more after each context. */
  readonly types: readonly [Float64Array, Float64Array, Float64Array];
  /** How many n-grams of this order were counted exactly once, twice, three and four times. */
  readonly countsOfCounts: readonly [number, number, number, number];
}

/** Raw counts of bigrams and trigrams of some documents. */
export interface RawCounts {
  readonly vocabularySize: number;
  /** `bigrams[first * vocabularySize + second]` */
  readonly bigrams: Int32Array;
  /** Distinct trigrams, ascending, packed as `(first * V + second) * V + third`. */
  readonly trigrams: Float64Array;
  readonly trigramCounts: Int32Array;
}

/**
 * Counts the n-grams inside documents that begin with BOS: a bigram ends at every token after the first, a trigram at
 * every token after the second. Takes 8 bytes a token and some 40 bytes a pair of vocabulary tokens.
 *
 * @throws RangeError when the vocabulary exceeds 8,192 tokens, or an id the vocabulary.
 */
export function countNgrams(documents: Iterable<Uint16Array>, vocabularySize: number): RawCounts {
  if (vocabularySize > 8192)
    throw new RangeError(
      `countNgrams: pairs are counted in a dense table, so at most 8192 tokens; got ${vocabularySize}.`,
    );
  const list = [...documents];
  const bigrams = new Int32Array(vocabularySize ** 2);
  const packed = new Float64Array(list.reduce((sum, ids) => sum + Math.max(0, ids.length - 2), 0));
  let length = 0;
  for (const ids of list) {
    for (let i = 0; i < ids.length; i++) {
      const id = ids[i];
      if (id >= vocabularySize)
        throw new RangeError(`countNgrams: id ${id} is outside the vocabulary of ${vocabularySize}.`);
      if (i === 0) continue;
      const pair = ids[i - 1] * vocabularySize + id;
      bigrams[pair] = bigrams[pair] + 1;
      if (i > 1) packed[length++] = ids[i - 2] * vocabularySize ** 2 + pair;
    }
  }
  packed.sort();
  let distinct = 0;
  const counts = new Int32Array(packed.length);
  for (let i = 0; i < packed.length; i++) {
    if (i === 0 || packed[i] !== packed[i - 1]) packed[distinct++] = packed[i];
    counts[distinct - 1] = counts[distinct - 1] + 1;
  }
  return { vocabularySize, bigrams, trigrams: packed.slice(0, distinct), trigramCounts: counts.slice(0, distinct) };
}

/** Totals, types and counts of counts, filled by `add` once for every n-gram. */
class Tally {
  readonly totals: Float64Array;
  readonly types: [Float64Array, Float64Array, Float64Array];
  readonly countsOfCounts: [number, number, number, number] = [0, 0, 0, 0];

  constructor(contexts: number) {
    this.totals = new Float64Array(contexts);
    this.types = [new Float64Array(contexts), new Float64Array(contexts), new Float64Array(contexts)];
  }

  add(context: number, count: number): void {
    if (count === 0) return;
    const types = this.types[Math.min(count, 3) - 1] as Float64Array;
    this.totals[context] = this.totals[context] + count;
    types[context] = types[context] + 1;
    if (count <= 4) this.countsOfCounts[count - 1]++;
  }
}

/** The level of trigrams, with their raw counts. */
export function trigramLevel(raw: RawCounts): Level {
  const { vocabularySize: size, trigrams, trigramCounts } = raw;
  const tally = new Tally(size ** 2);
  const starts = new Int32Array(size ** 2 + 1);
  trigrams.forEach((packed, i) => {
    const context = Math.floor(packed / size);
    tally.add(context, trigramCounts[i]);
    starts[context + 1] = i + 1;
  });
  for (let i = 1; i < starts.length; i++) starts[i] = Math.max(starts[i], starts[i - 1]);
  const count = (context: number, next: number): number => {
    const wanted = context * size + next;
    let low = starts[context];
    let high = starts[context + 1];
    while (low < high) {
      const middle = (low + high) >> 1;
      if (trigrams[middle] < wanted) low = middle + 1;
      else high = middle;
    }
    return low < starts[context + 1] && trigrams[low] === wanted ? trigramCounts[low] : 0;
  };
  return { count, totals: tally.totals, types: tally.types, countsOfCounts: tally.countsOfCounts };
}

const denseLevel = (counts: Int32Array, size: number): Level => {
  const tally = new Tally(counts.length / size);
  counts.forEach((count, i) => {
    tally.add(Math.floor(i / size), count);
  });
  const count = (context: number, next: number): number => counts[context * size + next];
  return { count, totals: tally.totals, types: tally.types, countsOfCounts: tally.countsOfCounts };
};

/**
 * The level of bigrams: raw counts for a bigram model; under trigrams the number of distinct tokens seen before the
 * pair, except that a pair that begins with BOS, which nothing precedes, keeps its raw count.
 */
export function bigramLevel(raw: RawCounts, bos: number, isHighest: boolean): Level {
  const { vocabularySize: size, bigrams, trigrams } = raw;
  if (isHighest) return denseLevel(bigrams, size);
  const counts = new Int32Array(size ** 2);
  for (const packed of trigrams) {
    const pair = packed % size ** 2;
    counts[pair] = counts[pair] + 1;
  }
  counts.set(bigrams.subarray(bos * size, (bos + 1) * size), bos * size);
  return denseLevel(counts, size);
}

/** The level of single tokens: raw counts for a unigram model, else the number of distinct tokens seen before each. */
export function unigramLevel(raw: RawCounts, isHighest: boolean): Level {
  const size = raw.vocabularySize;
  const counts = new Int32Array(size);
  raw.bigrams.forEach((count, i) => {
    if (count > 0) counts[i % size] = counts[i % size] + (isHighest ? count : 1);
  });
  return denseLevel(counts, size);
}
