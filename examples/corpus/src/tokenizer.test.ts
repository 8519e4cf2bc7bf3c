import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { Tokenizer as JsTokenizer } from '@huggingface/tokenizers';
import { Tokenizer as NativeTokenizer } from 'tokenizers';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { loadDocuments } from './corpora.js';
import { seededRandom } from './documents.js';
import { openEncoder } from './encoder.js';
import { BOS_TOKEN, trainTokenizer } from './tokenizer-train.js';

const committed = fileURLToPath(new URL('../tokenizer', import.meta.url));
const AWKWARD = [
  '',
  ' ',
  '\n\n a  b\t',
  "it's we'll 'Tis 1790, $450,000.5—“so” ϰητος חן 🐋!",
  '😀'.repeat(3),
  '\u0000\u007f',
];
let small: string;
let texts: string[];

beforeAll(() => {
  texts = loadDocuments(['moby-dick']).map((document) => document.text);
  small = mkdtempSync(join(tmpdir(), 'zebra-tokenizer-'));
  const files = trainTokenizer(texts.slice(0, 20), 300);
  writeFileSync(join(small, 'tokenizer.json'), JSON.stringify(files.tokenizer));
  writeFileSync(join(small, 'tokenizer_config.json'), JSON.stringify(files.config));
});
afterAll(() => rmSync(small, { recursive: true }));

describe.each(['trained here', 'committed'])('the tokenizer %s', (which) => {
  const folder = () => (which === 'committed' ? committed : small);

  it('gives the same ids as the native library, as @huggingface/tokenizers, and back', async () => {
    const path = join(folder(), 'tokenizer.json');
    const native = NativeTokenizer.fromFile(path);
    const js = new JsTokenizer(
      JSON.parse(readFileSync(path, 'utf8')),
      JSON.parse(readFileSync(join(folder(), 'tokenizer_config.json'), 'utf8')),
    );
    const encoder = openEncoder(folder());
    for (const text of [...AWKWARD, ...texts.slice(0, 12).map((chapter) => chapter.slice(0, 5000))]) {
      const ids = (await native.encode(text)).getIds();
      expect(ids[0]).toBe(encoder.bos);
      expect(js.encode(text).ids).toEqual(ids);
      expect(encoder.encode(text)).toEqual(ids.slice(1));
      expect(encoder.decode(ids)).toBe(text);
    }
  });

  it('has the two special tokens, 256 bytes and a token a merge', () => {
    const { model } = JSON.parse(readFileSync(join(folder(), 'tokenizer.json'), 'utf8'));
    const size = which === 'committed' ? 1024 : 300;
    expect(Object.values<number>(model.vocab).sort((a, b) => a - b)).toEqual(Array.from({ length: size }, (_, i) => i));
    expect(openEncoder(folder()).vocabularySize).toBe(size);
    expect(model.merges.length).toBeGreaterThanOrEqual(size - 258);
  });
});

describe('openEncoder', () => {
  it('brings back random bytes of text, and reads a special token in text as text', () => {
    const encoder = openEncoder(committed);
    const random = seededRandom(1);
    for (let i = 0; i < 200; i++) {
      const text = String.fromCodePoint(...Array.from({ length: 20 }, () => Math.floor(random() * 0xd7ff)));
      expect(encoder.decode(encoder.encode(text))).toBe(text);
    }
    const ids = encoder.encode(`a${BOS_TOKEN}b`);
    expect(ids).not.toContain(encoder.bos);
    expect(encoder.decode(ids)).toBe(`a${BOS_TOKEN}b`);
  });
  it('names what is missing', () => {
    expect(() => openEncoder('/nowhere')).toThrow(/cannot read \/nowhere\/tokenizer.json/);
  });
});

it('trainTokenizer refuses sizes it cannot reach', () => {
  expect(() => trainTokenizer(['a'], 258)).toThrow(RangeError);
  expect(() => trainTokenizer(['ab ab'], 2000)).toThrow(/texts give \d+ tokens/);
});
