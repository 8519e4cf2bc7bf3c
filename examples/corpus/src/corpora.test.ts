import { describe, expect, it } from 'vitest';
import { corpusVersions, loadDocuments, normaliseText, parseEntry } from './corpora.js';
import { SOURCES } from './documents.js';

describe('normaliseText', () => {
  it('makes quotes and hyphens plain and spaces single, and keeps paragraphs', () => {
    const untidy = ' “It’s  a\u0002 ”\r\nwell‑kept\ttext \n \n\n Next — one. ';
    expect(normaliseText(untidy)).toBe(`"It's a " well-kept text\nNext — one.`);
    expect(normaliseText('plain text. ')).toBe('plain text.');
  });
});

describe('parseEntry', () => {
  it('reads words, definition and examples', () => {
    const line =
      '00404516 30 s 03 outback(a) 0 far_off 2 outback 2 004 @ 00126072 v 0000 + 11515441 n 0301 ! 11515441 n 0201 = 04365017 n 0101 | remote; "the outback | life"  ';
    expect(parseEntry(line)).toEqual({
      id: 'wordnet/a00404516',
      source: 'wordnet',
      text: 'outback, far off: remote; "the outback | life"',
    });
  });
  it('skips the lines of the licence', () => {
    expect(parseEntry('  26 advertising or publicity | pertaining to  ')).toBeUndefined();
  });
});

describe('loadDocuments', () => {
  it('loads every corpus with unique ids, distinct texts and tidy spaces', () => {
    const documents = loadDocuments();
    const count = (source: string) => documents.filter((document) => document.source === source).length;
    expect(count('sotu')).toBeGreaterThan(200);
    // 135 chapters, the etymology, the extracts and the epilogue.
    expect(count('moby-dick')).toBe(138);
    expect(count('wordnet')).toBeGreaterThan(117_000);
    expect(new Set(documents.map((document) => document.id)).size).toBe(documents.length);
    expect(new Set(documents.map((document) => document.text)).size).toBe(documents.length);
    expect(
      documents.filter(({ text }) => text.split('\n').some((line) => line === '' || line !== normaliseText(line))),
    ).toEqual([]);
    expect(Object.keys(corpusVersions(SOURCES))).toHaveLength(3);
  });
});
