import { describe, expect, it } from 'vitest';
import { loadDocuments } from './corpora.js';
import { loadMisspellings, parseMisspellings, wordsOf } from './misspellings.js';
import { buildPreferences } from './preferences.js';
import { assignSplits } from './split.js';

describe('parseMisspellings', () => {
  it('turns round what is unambiguous, plain and no real word', () => {
    const lines = ['teh->the', 'hte->the', 'form->from', 'aache->ache, cache', "dont->don't"];
    expect(parseMisspellings(lines, new Set(['form']))).toEqual(new Map([['the', ['teh', 'hte']]]));
    expect(() => parseMisspellings(['odd'], new Set())).toThrow(/"odd"/);
  });
});

describe('buildPreferences', () => {
  const documents = assignSplits(loadDocuments(['moby-dick'])).test;
  const words = wordsOf(documents);
  const misspellings = loadMisspellings(words);
  const { train, evaluation, report } = buildPreferences(documents, { misspellings, seed: 5 });

  it('changes one to three words of a continuation and nothing else', () => {
    expect(train.length).toBeGreaterThan(200);
    for (const { prompt, chosen, rejected, changes } of [...train, ...evaluation]) {
      expect(documents.some(({ text }) => text.includes(prompt + chosen))).toBe(true);
      expect(rejected).not.toBe(chosen);
      expect(chosen.startsWith(' ') && rejected.startsWith(' ')).toBe(true);
      const right = chosen.split(' ');
      const wrong = rejected.split(' ');
      expect(wrong).toHaveLength(right.length);
      expect(wrong.filter((word, i) => word !== right[i])).toHaveLength(changes.length);
      expect(changes.length >= 1 && changes.length <= 3).toBe(true);
      for (const change of changes) expect(words.has((change.split('->')[1] as string).toLowerCase())).toBe(false);
    }
    expect(train.length + evaluation.length).toBe(report.sentences - report.skipped);
  });

  it('shares no sentence between the parts, whatever the seed', () => {
    const sentences = (pairs: readonly { prompt: string; chosen: string }[]) =>
      pairs.map((pair) => pair.prompt + pair.chosen);
    const other = buildPreferences(documents, { misspellings, seed: 6 });
    const held = new Set([...sentences(evaluation), ...sentences(other.evaluation)]);
    expect([...sentences(train), ...sentences(other.train)].filter((sentence) => held.has(sentence))).toEqual([]);
    expect(other.train).not.toEqual(train);
  });

  it('is deterministic, and maxPairs gives the first of them', () => {
    expect(buildPreferences(documents, { misspellings, seed: 5 }).train).toEqual(train);
    const few = buildPreferences(documents, { misspellings, seed: 5, maxPairs: 50 });
    expect(few.train.length + few.evaluation.length).toBe(50);
    expect(few.train).toEqual(train.slice(0, few.train.length));
  });
});
