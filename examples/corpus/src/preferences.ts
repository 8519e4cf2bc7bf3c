import { type Document, hash32, type Source, seededRandom } from './documents.js';
import type { Misspellings } from './misspellings.js';
import { segments, sentenceKey } from './sentences.js';

/** A sentence's beginning, its true continuation and one with misspellings; the texts concatenate without a space. */
export interface PreferencePair {
  readonly prompt: string;
  /** Begins with a space. */
  readonly chosen: string;
  /** `chosen` with 1 to 3 words written wrong. */
  readonly rejected: string;
  readonly source: Source;
  /** The words put in, as `right->wrong`. */
  readonly changes: readonly string[];
}

export interface PreferenceOptions {
  readonly misspellings: Misspellings;
  /** Of the cut, the words and the misspellings. Default 0. */
  readonly seed?: number;
  /** Longest sentence, in UTF-16 units. Default 240. */
  readonly maxLength?: number;
  /** Share of the pairs kept for evaluation. Default 0.2. */
  readonly evaluationShare?: number;
  /** Most pairs in all. Default: as many as there are. */
  readonly maxPairs?: number;
}

export interface PreferencePairs {
  readonly train: PreferencePair[];
  readonly evaluation: PreferencePair[];
  /** Sentences that were long enough, and how many of them had no word to write wrong. */
  readonly report: { readonly sentences: number; readonly skipped: number };
}

const MIN_WORDS = 8;
const MIN_LETTERS = 4;
const MAX_CHANGES = 3;

/**
 * Preference pairs from the sentences of held-out documents (of dictionary entries: their usage examples). The prompt
 * is the first 30–60% of a sentence's words; in the rejected continuation 1 to 3 words of at least four letters are
 * misspelt. A sentence without such a word is skipped, a repeated one is used once, and each belongs to train or to
 * evaluation by its hash. The same documents and seed give the same pairs, in an order that mixes the sources.
 */
export function buildPreferences(documents: Iterable<Document>, options: PreferenceOptions): PreferencePairs {
  const { misspellings, seed = 0, maxLength = 240, evaluationShare = 0.2 } = options;
  const { maxPairs = Number.POSITIVE_INFINITY } = options;
  const found: { pair: PreferencePair; key: number; isEvaluation: boolean }[] = [];
  const seen = new Set<string>();
  let sentences = 0;
  for (const document of documents) {
    for (const sentence of plainSentences(document)) {
      const key = sentenceKey(sentence);
      if (sentence.length > maxLength || key.split(' ').length < MIN_WORDS || seen.has(key)) continue;
      seen.add(key);
      sentences++;
      const pair = corrupt(sentence, document.source, misspellings, seededRandom(hash32(key, seed)));
      if (pair === undefined) continue;
      // The part depends on the sentence alone, so that another seed moves no sentence across.
      const isEvaluation = hash32(key) / 2 ** 32 < evaluationShare;
      found.push({ pair, key: hash32(key, seed + 1), isEvaluation });
    }
  }
  const skipped = sentences - found.length;
  found.sort((a, b) => a.key - b.key);
  const kept = found.slice(0, Math.min(found.length, maxPairs));
  const part = (isEvaluation: boolean): PreferencePair[] =>
    kept.filter((entry) => entry.isEvaluation === isEvaluation).map((entry) => entry.pair);
  return { train: part(false), evaluation: part(true), report: { sentences, skipped } };
}

function plainSentences(document: Document): string[] {
  const texts = segments(document).filter((part) => part.isSentence);
  if (document.source !== 'wordnet') return texts.map((part) => part.text);
  return texts.flatMap((part) => /^"([^"]+)"$/.exec(part.text)?.[1] ?? []);
}

function corrupt(
  sentence: string,
  source: Source,
  misspellings: Misspellings,
  random: () => number,
): PreferencePair | undefined {
  const words = sentence.split(' ');
  const cut = Math.max(1, Math.round(words.length * (0.3 + 0.3 * random())));
  const prompt = words.slice(0, cut).join(' ');
  const tail = words.slice(cut);
  const candidates: { index: number; right: string }[] = [];
  tail.forEach((word, index) => {
    const right = /[A-Za-z]+/.exec(word)?.[0] ?? '';
    if (right.length < MIN_LETTERS || (right.length > 1 && right === right.toUpperCase())) return;
    if (misspellings.has(right.toLowerCase())) candidates.push({ index, right });
  });
  if (candidates.length === 0) return undefined;
  const wanted = 1 + Math.floor(random() * MAX_CHANGES);
  const changed = [...tail];
  const changes: string[] = [];
  while (changes.length < wanted && candidates.length > 0) {
    const [{ index, right }] = candidates.splice(Math.floor(random() * candidates.length), 1) as [
      { index: number; right: string },
    ];
    const list = misspellings.get(right.toLowerCase()) as readonly string[];
    const lower = list[Math.floor(random() * list.length)];
    const wrong = /^[A-Z]/.test(right) ? lower[0].toUpperCase() + lower.slice(1) : lower;
    changed[index] = tail[index].replace(right, wrong);
    changes.push(`${right}->${wrong}`);
  }
  return { prompt, chosen: ` ${tail.join(' ')}`, rejected: ` ${changed.join(' ')}`, source, changes };
}
