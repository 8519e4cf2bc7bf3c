import { bigramLevel, countNgrams, type Level, type RawCounts, trigramLevel, unigramLevel } from './ngram-counts.js';

/** What is taken from an n-gram counted once, twice, and three times or more. */
export type Discounts = readonly [number, number, number];

export interface NgramOptions {
  /** 1, 2 or 3: the number of tokens in an n-gram. */
  readonly order: 1 | 2 | 3;
  readonly vocabularySize: number;
  /** The id that begins every document and is never predicted. */
  readonly bos: number;
}

/** An interpolated modified Kneser–Ney language model. */
export interface NgramModel {
  readonly order: 1 | 2 | 3;
  readonly vocabularySize: number;
  /** The discounts of the orders 1 to `order`. */
  readonly discounts: readonly Discounts[];
  /**
   * p(next | the last order − 1 tokens of `before`). `before` holds the document from BOS on; with fewer tokens than
   * the order asks for, the lower order answers. Sums to 1 over the vocabulary.
   */
  probability(before: ArrayLike<number>, next: number): number;
  /** −Σ ln p of every token after the first, in nats: `ids.length − 1` predictions within the document. */
  documentNats(ids: Uint16Array): number;
}

/** Where counts of counts hold a zero (tiny corpora, saturated unigrams) the estimate is undefined; these stand in. */
const FALLBACK: Discounts = [0.5, 1, 1.5];

/**
 * The discounts of one order from how many n-grams were seen once to four times: Y = n1/(n1+2·n2), D1 = 1−2Y·n2/n1,
 * D2 = 2−3Y·n3/n2, D3+ = 3−4Y·n4/n3 (Chen & Goodman 1998, eq. 26), each kept within [0, its count].
 */
export function estimateDiscounts([n1, n2, n3, n4]: Level['countsOfCounts']): Discounts {
  if (n1 === 0 || n2 === 0 || n3 === 0 || n4 === 0) return FALLBACK;
  const y = n1 / (n1 + 2 * n2);
  const clamp = (value: number, top: number): number => Math.min(Math.max(value, 0), top);
  return [clamp(1 - (2 * y * n2) / n1, 1), clamp(2 - (3 * y * n3) / n2, 2), clamp(3 - (4 * y * n4) / n3, 3)];
}

/** One order with its discounts: what a token keeps, and the share a context leaves to the order below. */
class Order {
  readonly discounts: Discounts;
  private readonly level: Level;

  constructor(level: Level) {
    this.level = level;
    this.discounts = estimateDiscounts(level.countsOfCounts);
  }

  /** p(next | context) given `below`, the lower order's p(next). An unseen context gives `below`. */
  interpolate(context: number, next: number, below: number): number {
    const total = this.level.totals[context];
    if (total === 0) return below;
    const [d1, d2, d3] = this.discounts;
    const [once, twice, more] = this.level.types;
    const count = this.level.count(context, next);
    const kept = count === 0 ? 0 : count - (count === 1 ? d1 : count === 2 ? d2 : d3);
    const left = d1 * once[context] + d2 * twice[context] + d3 * more[context];
    return (kept + left * below) / total;
  }
}

/**
 * Trains an interpolated modified Kneser–Ney model (Chen & Goodman 1998, section 3): raw counts in the highest order,
 * numbers of distinct left neighbours below, three discounts an order, the unigrams interpolated with the uniform
 * distribution over the whole vocabulary. Some seconds and half a gigabyte for eight million tokens.
 *
 * @param documents ids, each document beginning with BOS.
 * @throws RangeError when the vocabulary exceeds 8,192 tokens, an id the vocabulary, or a document has BOS elsewhere.
 */
export function trainKneserNey(documents: Iterable<Uint16Array>, options: NgramOptions): NgramModel {
  return kneserNeyFromCounts(countNgrams(checkBos(documents, options.bos), options.vocabularySize), options);
}

/** {@link trainKneserNey} from counts that were made before, so that several orders can share them. */
export function kneserNeyFromCounts(raw: RawCounts, options: Omit<NgramOptions, 'vocabularySize'>): NgramModel {
  const { order, bos } = options;
  const size = raw.vocabularySize;
  const unigrams = new Order(unigramLevel(raw, order === 1));
  const bigrams = order >= 2 ? new Order(bigramLevel(raw, bos, order === 2)) : undefined;
  const trigrams = order === 3 ? new Order(trigramLevel(raw)) : undefined;
  // first is negative where the document has no token so far back.
  const at = (first: number, second: number, next: number): number => {
    let p = unigrams.interpolate(0, next, 1 / size);
    if (bigrams !== undefined && second >= 0) p = bigrams.interpolate(second, next, p);
    if (trigrams !== undefined && first >= 0) p = trigrams.interpolate(first * size + second, next, p);
    return p;
  };
  return {
    order,
    vocabularySize: size,
    discounts: [unigrams, bigrams, trigrams].flatMap((level) => (level === undefined ? [] : [level.discounts])),
    probability: (before, next) => at(before[before.length - 2] ?? -1, before[before.length - 1] ?? -1, next),
    documentNats(ids) {
      let nats = 0;
      for (let i = 1; i < ids.length; i++) nats -= Math.log(at(i > 1 ? ids[i - 2] : -1, ids[i - 1], ids[i]));
      return nats;
    },
  };
}

function* checkBos(documents: Iterable<Uint16Array>, bos: number): Generator<Uint16Array> {
  for (const ids of documents) {
    if (ids.length > 0 && ids.lastIndexOf(bos) !== 0)
      throw new RangeError(`trainKneserNey: a document must hold BOS (${bos}) at its start and nowhere else.`);
    yield ids;
  }
}
