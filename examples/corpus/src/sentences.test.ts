import { describe, expect, it } from 'vitest';
import { loadDocuments } from './corpora.js';
import type { Document } from './documents.js';
import { joinSegments, passages, segments, sentenceKey } from './sentences.js';

const prose = (text: string): Document => ({ id: 'p', source: 'sotu', text });
const entry = (text: string): Document => ({ id: 'e', source: 'wordnet', text });

describe('segments', () => {
  it('ends sentences at stops before capitals, and at line ends', () => {
    const text = 'Mr. A. B. Smith (of No. 7) met Gen. Lee. "Was it 3.5?" He said so! "Aye."\n so it went. Yes';
    expect(segments(prose(text)).map((part) => part.text)).toEqual([
      'Mr. A. B. Smith (of No. 7) met Gen. Lee.',
      '"Was it 3.5?"',
      'He said so!',
      '"Aye."',
      ' so it went.',
      'Yes',
    ]);
  });
  it('parts an entry into head words, definitions and examples', () => {
    expect(segments(entry('a, b c: first; second: x; "one; two"; "three"'))).toEqual([
      { text: 'a, b c', separator: ': ', isSentence: false },
      { text: 'first', separator: '; ', isSentence: true },
      { text: 'second: x', separator: '; ', isSentence: true },
      { text: '"one; two"', separator: '; ', isSentence: true },
      { text: '"three"', separator: '', isSentence: true },
    ]);
  });
  it('joins to the same text', () => {
    for (const document of loadDocuments(['sotu', 'moby-dick']))
      expect(joinSegments(segments(document))).toBe(document.text);
  });
});

it('sentenceKey ignores case, quotes and punctuation', () => {
  expect(sentenceKey('"It\'s—A Test!"')).toBe('it s a test');
  expect(sentenceKey('* * *')).toBe('');
});

it('passages cut at sentence ends, near the size, and lose nothing', () => {
  const text = Array.from({ length: 50 }, (_, i) => `This is sentence number ${i}.`).join(' ');
  const parts = passages(prose(text), 200);
  expect(parts.map((part) => part.text).join(' ')).toBe(text);
  expect(parts.length).toBeGreaterThan(5);
  for (const part of parts) expect(part.text).toMatch(/^This.*\.$/);
  expect(parts[1]?.id).toBe('p#1');
  expect(passages(prose('Short. Text.'), 200)).toHaveLength(1);
});
