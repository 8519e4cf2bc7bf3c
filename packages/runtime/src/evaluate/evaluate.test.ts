import { fileURLToPath } from 'node:url';
import { type Device, logSoftmax, matmul, scope, tensor } from '@zebra/tensor';
import { testDevice } from '@zebra/tensor/testing';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { TinyModel } from '../tiny-model.testing.js';
import { loadTokenizer, type Tokenizer } from '../tokenizer/index.js';
import { minimalPairs, perplexity, scoreChoices } from './index.js';

// Float32 sums of some tens of log-probabilities, in another order.
const CLOSE = 4;

let device: Device;
let model: TinyModel;
let tokenizer: Tokenizer;
beforeAll(async () => {
  device = await testDevice();
  tokenizer = await loadTokenizer(fileURLToPath(new URL('../../test/tokenizers/sentencepiece', import.meta.url)));
  model = new TinyModel(device, tokenizer.vocabularySize, 11);
});
afterAll(() => model.dispose());

/** log p of each token but the first given those before it, one row alone. */
async function logProbabilities(ids: readonly number[]): Promise<number[]> {
  const all = scope(() => {
    const shape = [1, ids.length];
    const positions = tensor(device, Int32Array.from(ids.keys()), shape);
    const hidden = model.forward(tensor(device, Int32Array.from(ids), shape), { positions });
    return logSoftmax(matmul(hidden, model.headWeight, { transposeB: true }));
  });
  const values = await all.read();
  all.dispose();
  return ids.slice(1).map((id, t) => values[t * model.vocabularySize + id]!);
}

const sum = (values: readonly number[]) => values.reduce((total, value) => total + value, 0);

describe('perplexity', () => {
  const documents = [
    [1, 260, 261, 270],
    [1, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14],
    [1, 280],
  ];

  it('is the mean over all tokens but the first of each document', async () => {
    const expected = (await Promise.all(documents.map(logProbabilities))).flat();
    const seen: number[] = [];
    const before = device.statistics().liveBuffers;
    const result = await perplexity(model, documents, {
      batchSize: 1,
      length: 32,
      onProgress: ({ done, total }) => seen.push(done / total),
    });
    expect(device.statistics().liveBuffers).toBe(before);
    expect(result.tokens).toBe(14);
    expect(result.nats).toBeCloseTo(-sum(expected) / 14, CLOSE);
    expect(result.perplexity).toBeCloseTo(Math.exp(result.nats), 10);
    expect(seen).toEqual([1]);
  });

  it('does not depend on the batch, as long as documents are not cut', async () => {
    const one = await perplexity(model, documents, { batchSize: 1, length: 17 });
    const wide = await perplexity(model, documents, { batchSize: 3, length: 32 });
    expect(one.nats).toBeCloseTo(wide.nats, CLOSE);
  });

  it('predicts every token of a cut document, from what its row has', async () => {
    const ids = documents[1]!;
    const { nats, tokens } = await perplexity(model, [ids], { batchSize: 2, length: 4 });
    expect(tokens).toBe(10);
    // Rows hold tokens 0 to 3, 4 to 7 and 8 to 10, and each also predicts the first token of the next row.
    const rows = await Promise.all([ids.slice(0, 5), ids.slice(4, 9), ids.slice(8)].map(logProbabilities));
    expect(nats).toBeCloseTo(-sum(rows.flat()) / 10, CLOSE);
  });

  it('refuses ids outside the vocabulary, and can be stopped', async () => {
    await expect(perplexity(model, [[1, model.vocabularySize]])).rejects.toThrow(/must be an integer from 0 to/);
    await expect(perplexity(model, [])).rejects.toThrow(/no documents/);
    const reason = new Error('enough');
    await expect(perplexity(model, documents, { signal: AbortSignal.abort(reason) })).rejects.toBe(reason);
  });
});

describe('scoreChoices', () => {
  const items = [
    { context: 'hello the', choices: [' world', ' hello world.', ' w'], answer: 0 },
    { context: 'the world ', choices: ['hello', 'tsé'], answer: 1 },
    { context: '', choices: ['hello', 'world'] },
  ];

  it('sums what each choice adds, and divides by its bytes', async () => {
    const before = device.statistics().liveBuffers;
    const result = await scoreChoices(model, tokenizer, items, { batchSize: 4 });
    expect(device.statistics().liveBuffers).toBe(before);
    for (const [i, { context, choices }] of items.entries()) {
      for (const [j, choice] of choices.entries()) {
        const ids = tokenizer.encode(context + choice);
        const known = context === '' ? 1 : tokenizer.encode(context.trimEnd()).length;
        const expected = sum((await logProbabilities(ids)).slice(known - 1));
        expect(result.items[i]!.sums[j]).toBeCloseTo(expected, CLOSE);
        const bytes = Buffer.byteLength(choice);
        expect(result.items[i]!.perByte[j]).toBeCloseTo(expected / bytes, CLOSE);
      }
      const { sums, perByte, bestBySum, bestPerByte } = result.items[i]!;
      expect(sums[bestBySum]).toBe(Math.max(...sums));
      expect(perByte[bestPerByte]).toBe(Math.max(...perByte));
    }
    const right = [0, 1].filter((i) => result.items[i]!.bestBySum === items[i]!.answer).length;
    expect(result.accuracy).toBe(right / 2);
    const rightPerByte = [0, 1].filter((i) => result.items[i]!.bestPerByte === items[i]!.answer).length;
    expect(result.accuracyPerByte).toBe(rightPerByte / 2);
  });

  it('refuses impossible items', async () => {
    const score = (item: { context: string; choices: string[]; answer?: number }) =>
      scoreChoices(model, tokenizer, [item]);
    await expect(score({ context: 'a', choices: [] })).rejects.toThrow(/item 0 must have choices/);
    await expect(score({ context: 'a', choices: [''] })).rejects.toThrow(/none of them empty/);
    await expect(score({ context: 'a', choices: ['b'], answer: 1 })).rejects.toThrow(/its answer is 1/);
    await expect(scoreChoices(model, tokenizer, items, { batchSize: 0 })).rejects.toThrow(/batchSize/);
  });
});

describe('minimalPairs', () => {
  const pairs = [
    { good: 'hello world.', bad: 'world hello.' },
    { good: 'the world', bad: 'the the world and then the world' },
    { good: 'hello', bad: 'hello' },
  ];

  it('compares sums over whole sentences', async () => {
    const { accuracy, margins } = await minimalPairs(model, tokenizer, pairs, { batchSize: 4 });
    const expected = await Promise.all(
      pairs.map(async ({ good, bad }) => {
        const [g, b] = [tokenizer.encode(good), tokenizer.encode(bad)];
        return sum(await logProbabilities(g)) - sum(await logProbabilities(b));
      }),
    );
    for (const [i, margin] of margins.entries()) expect(margin).toBeCloseTo(expected[i]!, CLOSE);
    expect(margins[2]).toBe(0);
    expect(accuracy).toBe(expected.slice(0, 2).filter((margin) => margin > 0).length / 3);
  });

  it('refuses nothing', async () => {
    await expect(minimalPairs(model, tokenizer, [])).rejects.toThrow(/no pairs/);
    await expect(minimalPairs(model, tokenizer, [{ good: 'a', bad: '' }])).rejects.toThrow(
      /minimalPairs: "" has no tokens/,
    );
  });
});
