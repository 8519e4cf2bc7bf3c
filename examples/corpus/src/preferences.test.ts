import { describe, expect, it } from 'vitest';
import { loadDocuments } from './corpora.js';
import { breakAgreement, CORRUPTIONS, moveWord, swapWords } from './corruptions.js';
import { buildPreferences, type PreferencePair } from './preferences.js';
import { assignSplits } from './split.js';

const words = (text: string) => text.split(' ');
/** A generator that always draws the same. */
const always = (value: number) => () => value;

describe('corruptions', () => {
  it('break agreement of verbs, pronouns and articles, and keep punctuation', () => {
    const broken = (text: string, value = 0) => breakAgreement(words(text), text, always(value))?.words.join(' ');
    expect(broken('the whales were, he said')).toBe('the whales was, he said');
    expect(broken('he has seen a whale', 0.9)).toBe('he has seen an whale');
    expect(broken('they hurt themselves.')).toBe('they hurt himself.');
    expect(broken('nothing here')).toBeUndefined();
  });

  it('leave alone what may be right either way', () => {
    const text = 'as if they were whales';
    expect(breakAgreement(words(text), text, always(0))).toBeUndefined();
    expect(breakAgreement(words('the letter a'), 'the letter a', always(0))).toBeUndefined();
  });

  it('swap two content words in place', () => {
    expect(swapWords(words('the captain, with whales, said'), always(0))?.words.join(' ')).toBe(
      'the whales, with captain, said',
    );
    expect(swapWords(words('with Ahab and from captain'), always(0))).toBeUndefined();
    expect(swapWords(words('of ships and whales'), always(0))).toBeUndefined();
  });

  it('move a word on, and no adverb', () => {
    expect(moveWord(words('one two three four'), always(0))?.words.join(' ')).toBe('two three one four');
    expect(moveWord(words('ships slowly'), always(0))).toBeUndefined();
    expect(moveWord(words('slowly go, Ahab'), always(0))).toBeUndefined();
  });
});

describe('buildPreferences', () => {
  const documents = assignSplits(loadDocuments(['moby-dick'])).test;
  const { train, evaluation, report } = buildPreferences(documents, { seed: 5 });
  const whole = (pair: PreferencePair) => pair.prompt + pair.chosen;

  it('keeps the true continuation and makes it wrong in one way', () => {
    expect(train.length).toBeGreaterThan(200);
    const sorted = (text: string) => [...(text.toLowerCase().match(/[a-z]+/g) ?? [])].sort();
    for (const pair of [...train, ...evaluation]) {
      const { chosen, rejected, corruption, changes } = pair;
      expect(documents.some(({ text }) => text.includes(whole(pair)))).toBe(true);
      expect(rejected).not.toBe(chosen);
      expect(chosen.startsWith(' ') && rejected.startsWith(' ')).toBe(true);
      const [right, wrong] = [chosen.split(' '), rejected.split(' ')];
      const differing = right.filter((word, i) => word !== wrong[i]).length;
      if (corruption === 'other-ending') {
        expect(documents.some(({ text }) => text.includes(rejected.trim()))).toBe(true);
        continue;
      }
      expect(wrong).toHaveLength(right.length);
      if (corruption === 'agreement') expect(differing).toBe(1);
      else expect(sorted(rejected)).toEqual(sorted(chosen));
      if (corruption === 'swapped-words') expect(differing).toBe(2);
      expect(changes.length).toBe(corruption === 'swapped-words' ? 2 : 1);
    }
    expect(train.length + evaluation.length).toBe(report.sentences - report.skipped);
    for (const corruption of CORRUPTIONS) {
      const share = train.filter((pair) => pair.corruption === corruption).length / train.length;
      expect(share).toBeGreaterThan(0.05);
      expect(share).toBeLessThan(0.5);
    }
  });

  it('shares no sentence between the parts, whatever the seed, not by its ending either', () => {
    const other = buildPreferences(documents, { seed: 6 });
    const held = new Set([...evaluation, ...other.evaluation].map(whole));
    expect([...train, ...other.train].map(whole).filter((sentence) => held.has(sentence))).toEqual([]);
    expect(other.train).not.toEqual(train);
    const borrowed = (pairs: readonly PreferencePair[]) =>
      pairs.filter(({ corruption }) => corruption === 'other-ending').map(({ rejected }) => rejected);
    // Short endings may stand in sentences of both parts.
    const long = borrowed(train).filter((ending) => ending.length > 40);
    expect(long.filter((ending) => [...held].some((sentence) => sentence.endsWith(ending)))).toEqual([]);
  });

  it('has an ending of about the length of the true one', () => {
    const pairs = [...train, ...evaluation].filter(({ corruption }) => corruption === 'other-ending');
    const ratios = pairs.map(({ chosen, rejected }) => Math.log(rejected.length / chosen.length));
    expect(Math.abs(ratios.reduce((a, b) => a + b, 0) / ratios.length)).toBeLessThan(0.05);
  });

  it('is deterministic, and maxPairs gives the first of them', () => {
    expect(buildPreferences(documents, { seed: 5 }).train).toEqual(train);
    const few = buildPreferences(documents, { seed: 5, maxPairs: 50 });
    expect(few.train.length + few.evaluation.length).toBe(50);
    expect(few.train).toEqual(train.slice(0, few.train.length));
  });
});
