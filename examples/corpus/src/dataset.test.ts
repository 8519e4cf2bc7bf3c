import { mkdtempSync, readdirSync, rmSync, truncateSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { afterAll, describe, expect, it } from 'vitest';
import { splitMeta } from './cache.js';
import { loadTokenized } from './dataset.js';
import type { Document } from './documents.js';
import { interleave } from './order.js';

const tokenizerFolder = fileURLToPath(new URL('../tokenizer', import.meta.url));
const cacheDir = mkdtempSync(join(tmpdir(), 'zebra-corpus-'));
afterAll(() => rmSync(cacheDir, { recursive: true }));

describe('loadTokenized', () => {
  const load = (maxTokens?: number, cached = false) => {
    const { splits, encoder } = loadTokenized({
      splits: ['validation'],
      sources: ['moby-dick'],
      tokenizerFolder,
      ...(maxTokens === undefined ? {} : { maxTokens }),
      ...(cached ? { cacheDir } : {}),
    });
    return { split: splits.validation, encoder };
  };
  const whole = load(undefined, true);

  it('gives documents with BOS first and EOS last', () => {
    expect(whole.split.documents).toHaveLength(7);
    for (const ids of whole.split.documents) {
      expect(ids[0]).toBe(whole.encoder.bos);
      expect(ids.at(-1)).toBe(whole.encoder.eos);
      expect(ids.subarray(1, -1).includes(whole.encoder.bos)).toBe(false);
    }
    const meta = splitMeta(whole.split);
    expect(meta.sources).toEqual({ 'moby-dick': { documents: 7, tokens: meta.tokens, bytes: meta.bytes } });
  });

  it('gives the same from the cache, and the same prefix with and without it', () => {
    expect(readdirSync(cacheDir)).toHaveLength(1);
    expect(load(undefined, true).split).toEqual(whole.split);
    for (const limit of [1, 2, 500, 5000]) {
      const quick = load(limit).split;
      expect(quick).toEqual(load(limit, true).split);
      expect(quick.ids).toEqual(whole.split.ids.slice(0, limit === 1 ? 0 : limit));
    }
  });

  it('reads no cache whose files were cut short', () => {
    const folder = join(cacheDir, readdirSync(cacheDir)[0] as string);
    truncateSync(join(folder, 'validation.tokens.bin'), 10);
    expect(load(undefined, true).split).toEqual(whole.split);
  });

  it('cuts long documents into passages when asked', () => {
    const { splits } = loadTokenized({ splits: ['test'], sources: ['moby-dick'], tokenizerFolder, passageBytes: 2000 });
    const { documents, bytes } = splits.test;
    expect(documents.length).toBeGreaterThan(30);
    expect(Math.max(...bytes)).toBeLessThan(5000);
  });
});

describe('interleave', () => {
  const documents: Document[] = [
    ...Array.from({ length: 30 }, (_, i) => ({ id: `a${i}`, source: 'sotu' as const, text: 'x'.repeat(1000) })),
    ...Array.from({ length: 3000 }, (_, i) => ({ id: `b${i}`, source: 'wordnet' as const, text: 'y'.repeat(20) })),
  ];
  it('gives every prefix each source in its share of bytes', () => {
    const sums = { sotu: 0, wordnet: 0, 'moby-dick': 0 };
    for (const document of interleave(documents, 3)) {
      sums[document.source] += document.text.length;
      expect(Math.abs(sums.sotu / 30_000 - sums.wordnet / 60_000)).toBeLessThan(0.02);
    }
  });
  it('depends on the seed and not on the order given', () => {
    const ids = (list: Document[]) => list.map(({ id }) => id);
    expect(ids(interleave([...documents].reverse(), 3))).toEqual(ids(interleave(documents, 3)));
    expect(ids(interleave(documents, 4))).not.toEqual(ids(interleave(documents, 3)));
  });
});
