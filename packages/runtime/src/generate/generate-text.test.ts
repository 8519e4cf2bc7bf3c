import { fileURLToPath } from 'node:url';
import { testDevice } from '@zebra/tensor/testing';
import { afterAll, beforeAll, expect, it } from 'vitest';
import { TinyModel } from '../tiny-model.testing.js';
import { loadTokenizer, type Tokenizer } from '../tokenizer/index.js';
import { generate, generateText, streamText } from './index.js';

let model: TinyModel;
let tokenizer: Tokenizer;
beforeAll(async () => {
  tokenizer = await loadTokenizer(fileURLToPath(new URL('../../test/tokenizers/sentencepiece', import.meta.url)));
  model = new TinyModel(await testDevice(), tokenizer.vocabularySize, 4);
});
afterAll(() => model.dispose());

const PROMPTS = ['hello the', 'world.'];
const OPTIONS = { maxNewTokens: 12, temperature: 1, seed: 2 };

it('gives the text of the tokens', async () => {
  const encoded = PROMPTS.map((prompt) => tokenizer.encode(prompt));
  const ids: number[][] = PROMPTS.map(() => []);
  for await (const { tokens } of generate(model, encoded, { ...OPTIONS, stopTokenIds: [2] })) {
    for (const { row, id } of tokens) ids[row]!.push(id);
  }
  const texts = await generateText(model, tokenizer, PROMPTS, OPTIONS);
  expect(texts.map((text) => text.ids)).toEqual(ids);
  for (const [row, { text, finish }] of texts.entries()) {
    const whole = tokenizer.decode([...encoded[row]!, ...ids[row]!], { skipSpecialTokens: true });
    expect(PROMPTS[row] + text).toBe(whole);
    expect(finish).toBe(ids[row]!.at(-1) === 2 ? 'stop' : 'length');
  }
  expect(await generateText(model, tokenizer, encoded, OPTIONS)).toEqual(texts);
});

it('streams it, row by row', async () => {
  const texts = PROMPTS.map(() => '');
  const ended = new Set<number>();
  for await (const { row, text, finish } of streamText(model, tokenizer, PROMPTS, OPTIONS)) {
    expect(ended.has(row)).toBe(false);
    texts[row] += text;
    if (finish) ended.add(row);
  }
  expect(ended.size).toBe(2);
  expect(texts).toEqual((await generateText(model, tokenizer, PROMPTS, OPTIONS)).map(({ text }) => text));
});

it('leaves a stop token out of the text', async () => {
  const [first] = await generateText(model, tokenizer, ['hello'], { maxNewTokens: 4 });
  const stop = first!.ids[2]!;
  const [cut] = await generateText(model, tokenizer, ['hello'], { maxNewTokens: 4, stopTokenIds: [stop] });
  const end = first!.ids.indexOf(stop);
  expect(cut).toMatchObject({ ids: first!.ids.slice(0, end + 1), finish: 'stop' });
  const prompt = tokenizer.encode('hello');
  const whole = tokenizer.decode([...prompt, ...first!.ids.slice(0, end)], { skipSpecialTokens: true });
  expect(`hello${cut!.text}`).toBe(whole);
});
