import { breakAgreement, CORRUPTIONS, type Corrupted, type Corruption, moveWord, swapWords } from './corruptions.js';
import { type Document, hash32, type Source, seededRandom } from './documents.js';
import { segments, sentenceKey } from './sentences.js';

/** A sentence's beginning, its true continuation and a wrong one; the texts concatenate without a space. */
export interface PreferencePair {
  readonly prompt: string;
  /** Begins with a space. */
  readonly chosen: string;
  /** What nobody wrote there; begins with a space. */
  readonly rejected: string;
  readonly source: Source;
  readonly corruption: Corruption;
  /** What was put in, as `right->wrong`. */
  readonly changes: readonly string[];
}

export interface PreferenceOptions {
  /** Of the cut, the corruption and the words. Default 0. */
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
  /** Sentences that were long enough, and how many of them could not be made wrong. */
  readonly report: { readonly sentences: number; readonly skipped: number };
}

const MIN_WORDS = 8;
/** Share of the pairs that a corruption is tried first for. */
const SHARES: Readonly<Record<Corruption, number>> = {
  agreement: 0.4,
  'swapped-words': 0.25,
  'moved-word': 0.1,
  'other-ending': 0.25,
};
/** Sentences among which another ending of about the same length is looked for. */
const DONORS = 32;

/** A sentence cut in two. */
interface CutSentence {
  readonly key: string;
  readonly text: string;
  readonly prompt: string;
  readonly tail: readonly string[];
  readonly source: Source;
  readonly isEvaluation: boolean;
  /** Goes on where the cut stopped. */
  readonly random: () => number;
}

/**
 * Preference pairs from the sentences of held-out documents (of dictionary entries: their usage examples). The prompt is
 * the first 30–60% of a sentence's words. The rejected continuation is the true one with an error of agreement, with two
 * content words swapped or with a word moved, or it is the ending of another sentence of the same source and about the
 * same length. A sentence that allows none of these is skipped, a repeated one is used once, and each belongs to train
 * or to evaluation by its hash, as does the sentence that another ending comes from. The same documents and seed give
 * the same pairs, in an order that mixes the sources.
 */
export function buildPreferences(documents: Iterable<Document>, options: PreferenceOptions = {}): PreferencePairs {
  const { seed = 0, maxPairs = Number.POSITIVE_INFINITY } = options;
  const sentences = cutSentences(documents, options);
  const endings = new Map<string, CutSentence[]>();
  for (const sentence of sentences) {
    const group = `${sentence.source} ${sentence.isEvaluation}`;
    const list = endings.get(group);
    if (list === undefined) endings.set(group, [sentence]);
    else list.push(sentence);
  }
  const found = sentences.flatMap((sentence) => {
    const others = endings.get(`${sentence.source} ${sentence.isEvaluation}`) as CutSentence[];
    const pair = pairOf(sentence, others);
    return pair === undefined
      ? []
      : [{ pair, isEvaluation: sentence.isEvaluation, order: hash32(sentence.key, seed + 1) }];
  });
  const skipped = sentences.length - found.length;
  found.sort((a, b) => a.order - b.order);
  const kept = found.slice(0, Math.min(found.length, maxPairs));
  const part = (isEvaluation: boolean): PreferencePair[] =>
    kept.filter((entry) => entry.isEvaluation === isEvaluation).map((entry) => entry.pair);
  return { train: part(false), evaluation: part(true), report: { sentences: sentences.length, skipped } };
}

function cutSentences(
  documents: Iterable<Document>,
  { seed = 0, maxLength = 240, evaluationShare = 0.2 }: PreferenceOptions,
): CutSentence[] {
  const found: CutSentence[] = [];
  const seen = new Set<string>();
  for (const document of documents) {
    for (const text of plainSentences(document)) {
      const key = sentenceKey(text);
      if (text.length > maxLength || key.split(' ').length < MIN_WORDS || seen.has(key)) continue;
      seen.add(key);
      const random = seededRandom(hash32(key, seed));
      const words = text.split(' ');
      const cut = Math.max(1, Math.round(words.length * (0.3 + 0.3 * random())));
      found.push({
        key,
        text,
        prompt: words.slice(0, cut).join(' '),
        tail: words.slice(cut),
        source: document.source,
        // The part depends on the sentence alone, so that another seed moves no sentence across.
        isEvaluation: hash32(key) / 2 ** 32 < evaluationShare,
        random,
      });
    }
  }
  return found;
}

function plainSentences(document: Document): string[] {
  const texts = segments(document).filter((part) => part.isSentence);
  if (document.source !== 'wordnet') return texts.map((part) => part.text);
  return texts.flatMap((part) => /^"([^"]+)"$/.exec(part.text)?.[1] ?? []);
}

function pairOf(sentence: CutSentence, others: readonly CutSentence[]): PreferencePair | undefined {
  const { prompt, tail, text, source, random } = sentence;
  const attempts: Readonly<Record<Corruption, () => Corrupted | undefined>> = {
    agreement: () => breakAgreement(tail, text, random),
    'swapped-words': () => swapWords(tail, random),
    'moved-word': () => moveWord(tail, random),
    'other-ending': () => otherEnding(sentence, others),
  };
  for (const corruption of drawOrder(random)) {
    const made = attempts[corruption]();
    const [chosen, rejected] = [` ${tail.join(' ')}`, ` ${made?.words.join(' ')}`];
    if (made && rejected !== chosen) return { prompt, chosen, rejected, source, corruption, changes: made.changes };
  }
  return undefined;
}

/** All corruptions, the first drawn by its share; the others follow in their order. */
function drawOrder(random: () => number): Corruption[] {
  let roll = random();
  const first = CORRUPTIONS.find((corruption) => {
    roll -= SHARES[corruption];
    return roll < 0;
  });
  return first === undefined ? [...CORRUPTIONS] : [first, ...CORRUPTIONS.filter((corruption) => corruption !== first)];
}

/** Of some sentences, the ending that comes nearest in length. */
function otherEnding({ tail, key, random }: CutSentence, others: readonly CutSentence[]): Corrupted | undefined {
  const length = (words: readonly string[]) => words.reduce((sum, word) => sum + word.length + 1, 0);
  const distance = (other: CutSentence) => Math.abs(length(other.tail) - length(tail));
  let best: CutSentence | undefined;
  for (let i = 0; i < DONORS; i++) {
    const other = others[Math.floor(random() * others.length)] as CutSentence;
    if (other.key === key) continue;
    if (best === undefined || distance(other) < distance(best)) best = other;
  }
  return best && { words: best.tail, changes: [`${tail.join(' ')}->${best.tail.join(' ')}`] };
}
