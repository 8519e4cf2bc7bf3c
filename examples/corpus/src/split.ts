import { type Document, hash32, type Source } from './documents.js';
import { joinSegments, type Segment, segments, sentenceKey } from './sentences.js';

/** The three parts of the corpus: to train on, to choose by, to report. */
export const SPLITS = ['train', 'validation', 'test'] as const;
export type Split = (typeof SPLITS)[number];

/** What the split took out so that no sentence is in two parts; counts of sentences and of whole documents. */
export interface SplitReport {
  /** Sentences taken from validation or test because train holds them too. */
  sentencesAlsoInTrain: Record<'validation' | 'test', number>;
  /** Sentences taken from validation because test holds them too. */
  sentencesAlsoInTest: number;
  /** Documents that had nothing left. */
  documentsDropped: Record<'validation' | 'test', number>;
}

export interface SplitDocuments {
  readonly documents: Record<Split, Document[]>;
  readonly report: SplitReport;
}

/**
 * The part each document belongs to: of every source, ordered by a hash of the id, the first 90% are train, then 5%
 * validation and 5% test. It depends on the ids alone.
 */
export function assignSplits(documents: readonly Document[]): Record<Split, Document[]> {
  const parts: Record<Split, Document[]> = { train: [], validation: [], test: [] };
  const bySource = new Map<Source, Document[]>();
  for (const document of documents) {
    const group = bySource.get(document.source);
    if (group === undefined) bySource.set(document.source, [document]);
    else group.push(document);
  }
  for (const group of bySource.values()) {
    const hashes = new Map(group.map((document) => [document, hash32(document.id)]));
    const rank = [...group].sort(
      (a, b) => (hashes.get(a) as number) - (hashes.get(b) as number) || (a.id < b.id ? -1 : 1),
    );
    const train = Math.round(rank.length * 0.9);
    const validation = Math.round(rank.length * 0.95);
    const place = new Map(rank.map((document, i) => [document, i]));
    for (const document of group) {
      const i = place.get(document) as number;
      parts[i < train ? 'train' : i < validation ? 'validation' : 'test'].push(document);
    }
  }
  return parts;
}

const keysOf = (documents: readonly Document[], only?: ReadonlySet<string>): Set<string> => {
  const keys = new Set<string>();
  for (const document of documents) {
    for (const part of segments(document)) {
      if (!part.isSentence) continue;
      const key = sentenceKey(part.text);
      if (key !== '' && (only === undefined || only.has(key))) keys.add(key);
    }
  }
  return keys;
};

/**
 * Splits documents 90/5/5 and takes repeated sentences out of the held-out parts: from validation and test what train
 * holds, then from validation what test holds. Train is left as it is. A dictionary entry whose first definition goes
 * is dropped whole.
 */
export function splitDocuments(documents: readonly Document[]): SplitDocuments {
  const parts = assignSplits(documents);
  const heldOut = keysOf([...parts.validation, ...parts.test]);
  const train = keysOf(parts.train, heldOut);
  const test = keysOf(parts.test);
  const report: SplitReport = {
    sentencesAlsoInTrain: { validation: 0, test: 0 },
    sentencesAlsoInTest: 0,
    documentsDropped: { validation: 0, test: 0 },
  };
  const filter = (split: 'validation' | 'test'): Document[] =>
    parts[split].flatMap((document) => {
      const all = segments(document);
      const kept: Segment[] = [];
      for (const part of all) {
        const key = part.isSentence ? sentenceKey(part.text) : '';
        if (train.has(key)) report.sentencesAlsoInTrain[split]++;
        else if (split === 'validation' && test.has(key)) report.sentencesAlsoInTest++;
        else {
          kept.push(part);
          continue;
        }
        // A line break stays, else the neighbours would read as one sentence.
        const last = kept.at(-1);
        if (part.separator === '\n' && last !== undefined) kept[kept.length - 1] = { ...last, separator: '\n' };
      }
      if (kept.length === all.length) return [document];
      const headless = document.source === 'wordnet' && kept[1] !== all[1];
      if (headless || !kept.some((part) => part.isSentence)) {
        report.documentsDropped[split]++;
        return [];
      }
      return [{ ...document, text: joinSegments(kept) }];
    });
  return { documents: { train: parts.train, validation: filter('validation'), test: filter('test') }, report };
}
