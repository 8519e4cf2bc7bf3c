import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { Random } from '@zebra/tensor';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { createStreamDecoder, createTokenizer, loadTokenizer, type Tokenizer } from './index.js';

const path = (relative: string) => fileURLToPath(new URL(relative, import.meta.url));
const BYTE_LEVEL = path('../../../../examples/corpus/tokenizer');
const SENTENCEPIECE = path('../../test/tokenizers/sentencepiece');

let byteLevel: Tokenizer;
let sentencePiece: Tokenizer;
let folder: string;
beforeAll(async () => {
  byteLevel = await loadTokenizer(BYTE_LEVEL);
  sentencePiece = await loadTokenizer(SENTENCEPIECE);
  folder = mkdtempSync(join(tmpdir(), 'zebra-tokenizer-'));
});
afterAll(() => rmSync(folder, { recursive: true }));

const TEXTS = ['hello world', ' two  blanks ', "it's 1790, “so” ϰητος חן 🐋!", 'line\nline\t', 'é', '👩‍👩‍👧 done'];

describe.each(['byte-level', 'sentencepiece'])('a %s tokenizer', (kind) => {
  const tokenizer = () => (kind === 'byte-level' ? byteLevel : sentencePiece);

  it('brings text back', () => {
    for (const text of TEXTS) {
      const ids = tokenizer().encode(text);
      expect(ids[0]).toBe(tokenizer().bosTokenId);
      expect(tokenizer().encode(text, { addSpecialTokens: false })).toEqual(ids.slice(1));
      expect(tokenizer().decode(ids, { skipSpecialTokens: true })).toBe(text);
    }
    expect(tokenizer().encode('', { addSpecialTokens: false })).toEqual([]);
    expect(tokenizer().decode([])).toBe('');
    for (const half of ['\ud83d', '\udc0b']) {
      expect(tokenizer().encode(`a${half}b🐋`)).toEqual(tokenizer().encode('a\uFFFDb🐋'));
    }
  });

  it('streams the same text, whole characters at a time', () => {
    const random = new Random(7);
    for (let round = 0; round < 40; round++) {
      const text = String.fromCodePoint(
        ...Array.from({ length: 12 }, () => [0x61, 0x20, 0xe9, 0x4e2d, 0x1f600, 0x2e][random.integer(6)]!),
      );
      const ids = tokenizer().encode(text);
      const stream = createStreamDecoder(tokenizer());
      const pieces = [...ids.map((id) => stream.push(id)), stream.end()];
      expect(pieces.join('')).toBe(text);
      // A character that is cut in two shows as U+FFFD, or as half of a surrogate pair.
      for (const piece of pieces) expect(piece).not.toMatch(/\uFFFD|[\uD800-\uDBFF]$/);
    }
  });

  it('streams bytes that are no text', () => {
    const random = new Random(3);
    for (let round = 0; round < 20; round++) {
      const ids = Array.from({ length: 30 }, () => 3 + random.integer(280));
      const stream = createStreamDecoder(tokenizer());
      const text = ids.map((id) => stream.push(id)).join('') + stream.end();
      expect(text).toBe(tokenizer().decode(ids, { skipSpecialTokens: true }));
    }
  });

  it('gives an unfinished character at the end alone', () => {
    const ids = tokenizer().encode('a🐋', { addSpecialTokens: false }).slice(0, -1);
    const stream = createStreamDecoder(tokenizer());
    expect(ids.map((id) => stream.push(id)).join('')).toBe('a');
    expect(stream.end()).toMatch(/^\uFFFD+$/);
  });

  it('goes on after a prompt', () => {
    const all = tokenizer().encode('hello world');
    const context = tokenizer().encode('hello');
    expect(all.slice(0, context.length)).toEqual(context);
    const stream = createStreamDecoder(tokenizer(), { context });
    expect(
      all
        .slice(context.length)
        .map((id) => stream.push(id))
        .join(''),
    ).toBe(' world');
  });

  it('skips special tokens in a stream, or gives them', () => {
    const ids = [...tokenizer().encode('hello'), tokenizer().eosTokenId!];
    const texts = [true, false].map((skipSpecialTokens) => {
      const stream = createStreamDecoder(tokenizer(), { skipSpecialTokens });
      return ids.map((id) => stream.push(id)).join('') + stream.end();
    });
    expect(texts[0]).toBe('hello');
    expect(texts[1]).toBe(tokenizer().decode(ids));
  });

  it('checks ids and text', () => {
    expect(() => tokenizer().decode([-1])).toThrow(/non-negative integers, got -1/);
    expect(() => tokenizer().decode([1.5])).toThrow(/got 1.5/);
    expect(tokenizer().decode([tokenizer().vocabularySize + 5])).toBe('');
    expect(() => tokenizer().encode(undefined as unknown as string)).toThrow(/expected a string, got undefined/);
  });
});

describe('what the files say', () => {
  it('sizes and special tokens', () => {
    expect(byteLevel).toMatchObject({ vocabularySize: 1024, bosTokenId: 0, eosTokenId: 1, padTokenId: undefined });
    expect(byteLevel.specialTokenIds).toEqual(new Set([0, 1]));
    expect(byteLevel.tokenToId('<|end_of_text|>')).toBe(1);
    expect(byteLevel.idToToken(1)).toBe('<|end_of_text|>');
    expect(sentencePiece).toMatchObject({ bosTokenId: 1, eosTokenId: 2, unknownTokenId: 0 });
    expect(byteLevel.encode('a<|end_of_text|>')).toContain(1);
  });

  it('a chat template', () => {
    const messages = [
      { role: 'user', content: 'hi' },
      { role: 'assistant', content: ' yes ' },
    ];
    const text = byteLevel.applyChatTemplate(messages, { addGenerationPrompt: true });
    expect(text).toBe('<|begin_of_text|>User: hi\nAssistant: yes<|end_of_text|>\nAssistant:');
    const ids = byteLevel.encodeChat(messages, { addGenerationPrompt: true });
    expect(ids.filter((id) => id === 0)).toHaveLength(1);
    expect(byteLevel.decode(ids)).toBe(text);
    expect(byteLevel.chatTemplates).toEqual(['default']);
    expect(() => sentencePiece.applyChatTemplate(messages)).toThrow(/no chat template "default" \(it has: none\)/);
  });

  it('several chat templates, and one in a file of its own', () => {
    const tokenizerJson = readFileSync(join(SENTENCEPIECE, 'tokenizer.json'), 'utf8');
    const chat_template = [
      { name: 'default', template: 'plain' },
      { name: 'tool_use', template: 'tools' },
    ];
    const many = createTokenizer({ tokenizerJson, tokenizerConfigJson: { chat_template } });
    expect(many.applyChatTemplate([])).toBe('plain');
    expect(many.applyChatTemplate([], { tools: [{}] })).toBe('tools');
    expect(many.applyChatTemplate([], { template: 'tool_use' })).toBe('tools');
    expect(() => many.applyChatTemplate([], { template: 'constructor' })).toThrow(/it has: default, tool_use/);
    const own = createTokenizer({ tokenizerJson, tokenizerConfigJson: { chat_template }, chatTemplate: 'file' });
    expect(own.applyChatTemplate([])).toBe('file');
    const mapped = createTokenizer({ tokenizerJson, specialTokensMapJson: { eos_token: { content: '</s>' } } });
    expect(mapped.eosTokenId).toBe(2);
  });
});

describe('bad files', () => {
  it('none at all', async () => {
    await expect(loadTokenizer(folder)).rejects.toThrow(/has no tokenizer.json/);
  });

  it.each([
    ['{', /tokenizer.json: this is not JSON/],
    ['[]', /expected a JSON object, got \[\]/],
    ['{}', /model: expected an object, got nothing/],
    ['{"model": {"type": "BPE", "vocab": {"a": -1}}}', /model.vocab: "a": expected an integer from 0/],
    ['{"model": {"type": "BPE", "vocab": {"a": 1e9}}}', /model.vocab/],
    ['{"model": {"type": "BPE", "vocab": 7}}', /model.vocab: expected tokens and their ids, got 7/],
    ['{"model": {"type": "Nonsense", "vocab": {"a": 0}}}', /not a tokenizer that can be read/],
    [
      '{"model": {"type": "BPE", "vocab": {"a": 0}}, "added_tokens": [{"id": 0.5, "content": "a"}]}',
      /added_tokens\.0\.id/,
    ],
  ])('%s', async (text, message) => {
    writeFileSync(join(folder, 'tokenizer.json'), text);
    await expect(loadTokenizer(folder)).rejects.toThrow(message);
    await expect(loadTokenizer(folder)).rejects.toMatchObject({ name: 'ZebraError', code: 'format' });
  });
});
