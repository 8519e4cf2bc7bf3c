import { beforeAll, describe, expect, it } from 'vitest';
import { loadDocuments } from './corpora.js';
import type { Document } from './documents.js';
import { segments, sentenceKey } from './sentences.js';
import { SPLITS, type SplitDocuments, splitDocuments } from './split.js';

const keys = (documents: readonly Document[]): Set<string> =>
  new Set(
    documents.flatMap((document) =>
      segments(document)
        .filter((part) => part.isSentence)
        .map((part) => sentenceKey(part.text))
        .filter((key) => key !== ''),
    ),
  );

describe('splitDocuments on the real corpora', () => {
  let all: Document[];
  let result: SplitDocuments;
  beforeAll(() => {
    all = loadDocuments();
    result = splitDocuments(all);
  });

  it('has no sentence in two splits', () => {
    const { train, validation, test } = result.documents;
    const [trainKeys, testKeys] = [keys(train), keys(test)];
    expect(trainKeys.size).toBeGreaterThan(100_000);
    expect([...testKeys].filter((key) => trainKeys.has(key))).toEqual([]);
    expect([...keys(validation)].filter((key) => trainKeys.has(key) || testKeys.has(key))).toEqual([]);
  });

  it('puts every document in one split, 90/5/5 of each source', () => {
    const ids = SPLITS.flatMap((split) => result.documents[split].map((document) => document.id));
    const { validation, test } = result.report.documentsDropped;
    expect(new Set(ids).size).toBe(ids.length);
    expect(ids.length + validation + test).toBe(all.length);
    for (const source of ['sotu', 'moby-dick', 'wordnet']) {
      const count = (documents: readonly Document[]) =>
        documents.filter((document) => document.source === source).length;
      expect(count(result.documents.train) / count(all)).toBeCloseTo(0.9, 2);
      expect(count(result.documents.validation) / count(all)).toBeCloseTo(0.05, 2);
    }
  });

  it('does not depend on the order of the documents', () => {
    const again = splitDocuments([...all].reverse());
    for (const split of SPLITS)
      expect(again.documents[split].map(({ id }) => id).sort()).toEqual(
        result.documents[split].map(({ id }) => id).sort(),
      );
  });
});

it('keeps a line break whose sentence goes, and drops an entry that lost its definition', () => {
  const documents: Document[] = Array.from({ length: 40 }, (_, i) => [
    { id: `s${i}`, source: 'sotu' as const, text: `Number ${i} stands. Repeated words.\nlower case ${i}.` },
    { id: `w${i}`, source: 'wordnet' as const, text: `word: same thing; "example ${i}"` },
  ]).flat();
  const { documents: parts, report } = splitDocuments(documents);
  expect(parts.test.map(({ text }) => text.replace(/\d+/g, '#'))).toEqual(
    Array(2).fill('Number # stands.\nlower case #.'),
  );
  expect(report.sentencesAlsoInTrain).toEqual({ validation: 4, test: 4 });
  expect(report.documentsDropped).toEqual({ validation: 2, test: 2 });
});
