import { readFileSync } from 'node:fs';
import fc from 'fast-check';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { checkStream, compareIds, compareText, hasBrokenBytes } from '../src/tokenizers/compare.js';
import { fuzzedTexts } from '../src/tokenizers/fuzz.js';
import { mixedText } from '../src/tokenizers/mixed-text.js';
import { openPair, TOKENIZER_NAMES, type TokenizerName, type TokenizerPair } from '../src/tokenizers/published.js';
import { unicodeAgreement } from '../src/tokenizers/unicode.js';

// The full size, 1 MB and 10,000 fuzzed texts, is `npm run tokenizers -w @zebra/integration`.
const BYTES = 100_000;
const FUZZED = 300;

const pairs = new Map<TokenizerName, TokenizerPair>();
const pairOf = (name: TokenizerName) => pairs.get(name)!;
let text: string;
let agrees: (character: string) => boolean;
beforeAll(async () => {
  for (const name of TOKENIZER_NAMES) pairs.set(name, await openPair(name));
  text = mixedText(BYTES);
  agrees = unicodeAgreement(pairOf('Llama-3.1'), pairOf('Qwen3'));
});
// Hundreds of megabytes, and all test files share a process.
afterAll(() => {
  pairs.clear();
  agrees = () => true;
});

describe.each(TOKENIZER_NAMES)('%s against the native library', (name) => {
  const pair = () => pairOf(name);

  it('mixed text: the same ids, the same text of them', async () => {
    expect(Buffer.byteLength(text)).toBeGreaterThan(BYTES);
    expect(await compareText(pair(), text)).toBeUndefined();
  });

  it('mixed text comes back, composed where the tokenizer composes', () => {
    const { tokenizer } = pair();
    const back = tokenizer.decode(tokenizer.encode(text), { skipSpecialTokens: true });
    expect(back).toBe(name === 'Qwen3' ? text.normalize('NFC') : text);
  });

  it('fuzzed texts: the same ids, the same text of them, no character split in a stream', async () => {
    await fc.assert(
      fc.asyncProperty(fuzzedTexts(agrees), async (fuzzed) => {
        expect(await compareText(pair(), fuzzed)).toBeUndefined();
        const { tokenizer } = pair();
        const ids = tokenizer.encode(fuzzed, { addSpecialTokens: false });
        const { joined, split } = checkStream(tokenizer, ids);
        expect(joined).toBe(tokenizer.decode(ids));
        if (!/\p{Surrogate}|\uFFFD/u.test(fuzzed)) expect(split).toEqual([]);
      }),
      { numRuns: FUZZED, seed: 1 },
    );
  });

  it('any ids: the same text, also in a stream', async () => {
    const { tokenizer } = pair();
    const ids = fc.array(fc.nat({ max: tokenizer.vocabularySize - 1 }), { minLength: 1, maxLength: 30 });
    await fc.assert(
      fc.asyncProperty(ids, async (list) => {
        if (!hasBrokenBytes(tokenizer, list)) expect(await compareIds(pair(), list)).toBeUndefined();
        expect(checkStream(tokenizer, list).joined).toBe(tokenizer.decode(list));
      }),
      { numRuns: FUZZED, seed: 2 },
    );
  });

  it('every added token, alone and inside of text', async () => {
    const { tokenizer, native, file } = pair();
    const added = (JSON.parse(readFileSync(file, 'utf8')) as { added_tokens: AddedToken[] }).added_tokens;
    for (const { id, content, special } of added) {
      expect(tokenizer.encode(content, { addSpecialTokens: false })).toEqual([id]);
      expect(tokenizer.specialTokenIds.has(id)).toBe(special);
      expect(tokenizer.idToToken(id)).toBe(native.idToToken(id));
    }
    expect(await compareText(pair(), added.map(({ content }) => `a ${content} b${content}`).join(''))).toBeUndefined();
    expect(tokenizer.vocabularySize).toBe(native.getVocabSize(true));
  });
});

interface AddedToken {
  readonly id: number;
  readonly content: string;
  readonly special: boolean;
}

describe('special tokens of the models', () => {
  it.each([
    ['Llama-2', { bosTokenId: 1, eosTokenId: 2, unknownTokenId: 0, vocabularySize: 32_000 }],
    ['Llama-3.1', { bosTokenId: 128_000, eosTokenId: 128_009, vocabularySize: 128_256 }],
    ['Qwen3', { bosTokenId: undefined, eosTokenId: 151_645, padTokenId: 151_643, vocabularySize: 151_669 }],
  ] as const)('%s', (name, expected) => {
    const { tokenizer } = pairOf(name);
    expect(tokenizer).toMatchObject(expected);
    const begin = tokenizer.bosTokenId === undefined ? [] : [tokenizer.bosTokenId];
    expect(tokenizer.encode('')).toEqual(begin);
    // Text that spells the token is that token, also behind the one that the tokenizer puts in front itself.
    const end = tokenizer.eosTokenId!;
    expect(tokenizer.encode(tokenizer.idToToken(end)!)).toEqual([...begin, end]);
  });
});

describe('what differs, and why', () => {
  it('a lone surrogate is U+FFFD, as in any conversion to UTF-8', async () => {
    for (const name of TOKENIZER_NAMES) {
      expect(await compareText(pairOf(name), 'a\ud800b\udc00')).toBeUndefined();
    }
  });

  // U+10946 is a letter since Unicode 17; the native library knows version 16, and takes it for a symbol that the
  // apostrophe belongs to.
  it("a letter newer than the native library's Unicode moves the border of a token", async () => {
    const newer = '\u{10946}';
    const { tokenizer, native } = pairOf('Llama-3.1');
    const encode = (part: string) => tokenizer.encode(part, { addSpecialTokens: false });
    const theirs = (await native.encode(`${newer}'ll`, null, { addSpecialTokens: false })).getIds();
    expect(theirs).toEqual([...encode(newer), ...encode("'"), ...encode('ll')]);
    const isLetter = /\p{L}/u.test(newer);
    expect(encode(`${newer}'ll`)).toEqual(isLetter ? [...encode(newer), ...encode("'ll")] : theirs);
    expect(agrees(newer)).toBe(!isLetter);
  });

  // U+1AC2 is a mark above since Unicode 14, to be put behind marks below such as U+0339; the native library composes
  // by version 9, to which it is no mark.
  it("a mark newer than the native library's Unicode is not put in order by it", async () => {
    const marks = '\u1c21\u1ac2\u0339';
    const { tokenizer, native } = pairOf('Qwen3');
    expect(tokenizer.decode(tokenizer.encode(marks))).toBe('\u1c21\u0339\u1ac2');
    expect(await native.decode((await native.encode(marks)).getIds(), true)).toBe(marks);
    expect(agrees('\u1ac2')).toBe(false);
  });

  // Only a model that goes astray writes such bytes. The native library makes U+FFFD of all bytes in a row if one of
  // them is broken; ours would have to take back the `$` that a stream has given already.
  it('bytes in a row that are no UTF-8 keep their good ones', async () => {
    const { tokenizer, native } = pairOf('Llama-2');
    const ids = ['<0x24>', '<0xA2>'].map((token) => tokenizer.tokenToId(token)!);
    expect(ids).toEqual([39, 165]);
    expect(await native.decode(ids, true)).toBe('\uFFFD\uFFFD');
    expect(tokenizer.decode(ids)).toBe('$\uFFFD');
    expect(checkStream(tokenizer, ids).joined).toBe('$\uFFFD');
    expect(hasBrokenBytes(tokenizer, ids)).toBe(true);
    expect(hasBrokenBytes(tokenizer, tokenizer.encode('𝒳$ä'))).toBe(false);
  });

  it('and nothing in text that anybody writes', () => {
    expect([...new Set(text)].filter((character) => !agrees(character))).toEqual([]);
    const greekToThai = Array.from({ length: 0x7fd }, (_, code) => String.fromCharCode(code));
    expect(greekToThai.filter((character) => !agrees(character))).toEqual([]);
  });
});

// Expected texts: the examples of the models' documentation (Meta's prompt format of Llama 3, the model card of
// Qwen3), and for the rest what Jinja2 3.1.6 renders with the settings of the transformers library.
describe('chat templates', () => {
  const llama = () => pairOf('Llama-3.1').tokenizer;
  const qwen = () => pairOf('Qwen3').tokenizer;

  it('Llama 3: the documented example, and its ids', async () => {
    const messages = [
      { role: 'system', content: 'You are a helpful AI assistant for travel tips and recommendations' },
      { role: 'user', content: 'What can you help me with?' },
    ];
    const rendered =
      '<|begin_of_text|><|start_header_id|>system<|end_header_id|>\n\nYou are a helpful AI assistant for travel tips and recommendations<|eot_id|><|start_header_id|>user<|end_header_id|>\n\nWhat can you help me with?<|eot_id|><|start_header_id|>assistant<|end_header_id|>\n\n';
    expect(llama().applyChatTemplate(messages, { addGenerationPrompt: true })).toBe(rendered);
    const ids = llama().encodeChat(messages, { addGenerationPrompt: true });
    expect(ids.filter((id) => id >= 128_000)).toEqual([
      ...[128_000, 128_006, 128_007, 128_009],
      ...[128_006, 128_007, 128_009],
      ...[128_006, 128_007],
    ]);
    const { native } = pairOf('Llama-3.1');
    expect(ids).toEqual((await native.encode(rendered, null, { addSpecialTokens: false })).getIds());
  });

  it('Llama 3: contents are trimmed', () => {
    const messages = [
      { role: 'user', content: ' 你好 ' },
      { role: 'assistant', content: 'Hi!\n' },
    ];
    expect(llama().applyChatTemplate(messages)).toBe(
      '<|begin_of_text|><|start_header_id|>user<|end_header_id|>\n\n你好<|eot_id|><|start_header_id|>assistant<|end_header_id|>\n\nHi!<|eot_id|>',
    );
  });

  it('Qwen3: the documented example, with and without thinking', async () => {
    const messages = [{ role: 'user', content: 'Give me a short introduction to large language models.' }];
    const rendered =
      '<|im_start|>user\nGive me a short introduction to large language models.<|im_end|>\n<|im_start|>assistant\n';
    expect(qwen().applyChatTemplate(messages, { addGenerationPrompt: true })).toBe(rendered);
    const options = { addGenerationPrompt: true, variables: { enable_thinking: false } };
    expect(qwen().applyChatTemplate(messages, options)).toBe(`${rendered}<think>\n\n</think>\n\n`);
    const ids = qwen().encodeChat(messages, options);
    expect(ids.slice(0, 3)).toEqual([151_644, ...qwen().encode('user\n')]);
    expect(ids.filter((id) => id >= 151_643)).toEqual([151_644, 151_645, 151_644, 151_667, 151_668]);
    const { native } = pairOf('Qwen3');
    expect(ids).toEqual((await native.encode(`${rendered}<think>\n\n</think>\n\n`)).getIds());
  });

  it('Qwen3: thoughts of earlier turns are left out, those after the last question stay', () => {
    const messages = [
      { role: 'system', content: 'Be brief.' },
      { role: 'user', content: '2+2?' },
      { role: 'assistant', content: '<think>\nEasy.\n</think>\n\n4' },
      { role: 'user', content: 'And 3+3?' },
      { role: 'assistant', content: '6', reasoning_content: 'Also easy.' },
    ];
    expect(qwen().applyChatTemplate(messages)).toBe(
      '<|im_start|>system\nBe brief.<|im_end|>\n<|im_start|>user\n2+2?<|im_end|>\n<|im_start|>assistant\n4<|im_end|>\n<|im_start|>user\nAnd 3+3?<|im_end|>\n<|im_start|>assistant\n<think>\nAlso easy.\n</think>\n\n6<|im_end|>\n',
    );
  });

  it('Qwen3: tools, their calls and their answers', () => {
    const city = { type: 'object', properties: { city: { type: 'string' } }, required: ['city'] };
    const description = 'Wetter für "Zürich"';
    const tools = [{ type: 'function', function: { name: 'get_weather', description, parameters: city } }];
    const calls = [
      { type: 'function', function: { name: 'get_weather', arguments: { city: 'Zürich', days: 1 } } },
      { name: 'get_weather', arguments: '{"city": "Bern"}' },
    ];
    const messages = [
      { role: 'user', content: 'Weather?' },
      { role: 'assistant', content: '', tool_calls: calls },
      { role: 'tool', content: '12 °C' },
      { role: 'tool', content: '9 °C' },
    ];
    expect(qwen().applyChatTemplate(messages, { tools, addGenerationPrompt: true })).toBe(
      [
        '<|im_start|>system\n# Tools\n\nYou may call one or more functions to assist with the user query.\n\nYou are provided with function signatures within <tools></tools> XML tags:\n<tools>\n',
        '{"type": "function", "function": {"name": "get_weather", "description": "Wetter für \\"Zürich\\"", "parameters": {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]}}}\n',
        '</tools>\n\nFor each function call, return a json object with function name and arguments within <tool_call></tool_call> XML tags:\n<tool_call>\n{"name": <function-name>, "arguments": <args-json-object>}\n</tool_call><|im_end|>\n',
        '<|im_start|>user\nWeather?<|im_end|>\n<|im_start|>assistant\n',
        '<tool_call>\n{"name": "get_weather", "arguments": {"city": "Zürich", "days": 1}}\n</tool_call>\n',
        '<tool_call>\n{"name": "get_weather", "arguments": {"city": "Bern"}}\n</tool_call><|im_end|>\n',
        '<|im_start|>user\n<tool_response>\n12 °C\n</tool_response>\n<tool_response>\n9 °C\n</tool_response><|im_end|>\n',
        '<|im_start|>assistant\n',
      ].join(''),
    );
  });

  it('Llama 2 ships without a template', () => {
    expect(() => pairOf('Llama-2').tokenizer.applyChatTemplate([])).toThrow(/no chat template "default"/);
  });
});
