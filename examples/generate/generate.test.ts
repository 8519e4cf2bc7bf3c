import { execFile } from 'node:child_process';
import { copyFile, mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { promisify } from 'node:util';
import { generateText, loadModel, loadTokenizer, readModelSpec } from '@zebra/runtime';
import { testDevice } from '@zebra/tensor/testing';
import { expect, it } from 'vitest';
import { continueText, promptIds } from './src/continue.js';
import { loadOptions } from './src/load.js';
import { readOptions, TEACHER } from './src/options.js';

it('streams what the library generates, and counts it', async () => {
  const device = await testDevice();
  const tokenizer = await loadTokenizer(TEACHER);
  using model = await loadModel(device, TEACHER);
  const prompt = promptIds(tokenizer, 'The people of the United', false);
  const sampling = { maxNewTokens: 12, temperature: 0.8, topK: 40, topP: 0.95, seed: 3 };
  const pieces: string[] = [];
  const result = await continueText(model, tokenizer, prompt, { ...sampling, write: (text) => pieces.push(text) });
  const [expected] = await generateText(model, tokenizer, [prompt], sampling);
  expect(pieces.join('')).toBe(expected!.text);
  expect(pieces.length).toBeGreaterThan(2);
  expect(result).toMatchObject({ newTokens: expected!.ids.length, finish: expected!.finish });
  expect(result.tokensPerSecond).toBeGreaterThan(0);

  const interrupt = new AbortController();
  const write = () => interrupt.abort();
  const cut = await continueText(model, tokenizer, prompt, { ...sampling, signal: interrupt.signal, write });
  expect(cut).toMatchObject({ newTokens: 1, finish: 'aborted' });
});

it('makes room for as many tokens as are asked for, in the dtype asked for', async () => {
  const device = await testDevice();
  const spec = await readModelSpec(TEACHER);
  const { maxPositionEmbeddings } = spec.config;
  const info = { float16: true, description: 'a GPU', vendor: 'v' };
  expect(loadOptions(spec, info, { dtype: 'float16', tokens: 10 })).toEqual({
    dtype: 'float16',
    maxPositions: spec.maxPositions,
  });
  const tokens = maxPositionEmbeddings + 5;
  const long = loadOptions(spec, info, { dtype: 'float32', tokens });
  expect(long).toEqual({ dtype: 'float32', maxPositions: tokens });
  using model = await loadModel(device, TEACHER, long);
  const prompt = Array.from({ length: maxPositionEmbeddings }, (_, i) => 5 + (i % 50));
  const result = await continueText(model, await loadTokenizer(TEACHER), prompt, {
    maxNewTokens: 5,
    temperature: 0,
    write: () => {},
  });
  expect(result.promptTokens + result.newTokens).toBeGreaterThan(maxPositionEmbeddings);
  expect(() => loadOptions(spec, info, { dtype: 'float32', tokens: 1e9 })).toThrow(/--max-new-tokens: .*131072/);
  expect(() => loadOptions(spec, { ...info, float16: false }, { dtype: 'float16', tokens: 1 })).toThrow(
    /a GPU lacks shader-f16\. Give --dtype float32/,
  );
});

it('asks through the chat template', async () => {
  const tokenizer = await loadTokenizer(TEACHER);
  const text = tokenizer.decode(promptIds(tokenizer, ' What is a whale? ', true));
  expect(text).toBe('<|begin_of_text|>User: What is a whale?\nAssistant:');
});

it('says what is wrong with a command line', () => {
  expect(readOptions(['some/folder', '--top-k', '5', '--chat'])).toMatchObject({
    folder: 'some/folder',
    topK: 5,
    chat: true,
    temperature: 0.8,
  });
  expect(() => readOptions(['--top-k', 'many'])).toThrow(/--top-k must be a number, got "many"/);
  expect(() => readOptions(['--adapter', 'cuda'])).toThrow(/--adapter must be auto, .*got cuda/);
  expect(() => readOptions(['--tempreature', '1'])).toThrow(
    /^Unknown option '--tempreature' \(--help lists the options\)$/,
  );
  expect(() => readOptions(['--dtype', 'bfloat16'])).toThrow(/--dtype must be float32 or float16, got bfloat16/);
  expect(() => readOptions(['folder', 'Call', 'me'])).toThrow(/one folder at most/);
});

it('ends with one line where the folder is wrong', async () => {
  const script = fileURLToPath(new URL('./main.ts', import.meta.url));
  const adapter = process.env.ZEBRA_TEST_ADAPTER ?? 'auto';
  const run = async (folder: string) => {
    const args = ['--conditions=@zebra/source', '--import', 'tsx', script, folder, '--adapter', adapter];
    // A child that ends well has no `code` here.
    return promisify(execFile)(process.execPath, args).catch((error) => error as { code: number; stderr: string });
  };
  const folder = await mkdtemp(join(tmpdir(), 'zebra-generate-'));
  const check = async (message: RegExp) => {
    const result = await run(folder);
    expect(result).toMatchObject({ code: 1, stderr: expect.stringMatching(message) });
    // No stack.
    expect(result.stderr).not.toMatch(/\n {4}at /);
  };
  await check(/has no config\.json\. Give the folder of a Hugging Face checkpoint\./);
  for (const name of ['config.json', 'tokenizer.json']) await copyFile(join(TEACHER, name), join(folder, name));
  await check(/holds neither model\.safetensors nor .*Check the path/);
  await rm(folder, { recursive: true });
});
