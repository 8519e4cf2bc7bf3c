import { type Device, matmul, scope, type Tensor, tensor } from '@zebra/tensor';
import { relativeError, testDevice } from '@zebra/tensor/testing';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { TinyModel } from '../tiny-model.testing.js';
import { DecodeSession } from './decode-session.js';
import { type GenerateOptions, generate } from './index.js';
import { padPrompts } from './left-padding.js';
import { argmax } from './sampler.js';

const VOCABULARY = 37;
const PROMPTS = [[1, 5, 9, 2], [7], [3, 3, 8, 30, 11, 12]];

let device: Device;
let model: TinyModel;

/** Logits after the last of some tokens, with neither cache nor padding. */
async function logitsAfter(ids: readonly number[]): Promise<Float32Array> {
  const logits: Tensor = scope(() => {
    const positions = tensor(device, Int32Array.from(ids.keys()), [1, ids.length]);
    const hidden = model.forward(tensor(device, Int32Array.from(ids), [1, ids.length]), { positions });
    return matmul(hidden, model.headWeight, { transposeB: true });
  });
  const all = (await logits.read()) as Float32Array;
  logits.dispose();
  return all.slice(-VOCABULARY);
}

async function greedy(prompt: readonly number[], count: number): Promise<number[]> {
  const ids = [...prompt];
  for (let i = 0; i < count; i++) ids.push(argmax(await logitsAfter(ids)));
  return ids.slice(prompt.length);
}

async function run(prompts: number[][], options: GenerateOptions): Promise<number[][]> {
  const rows: number[][] = prompts.map(() => []);
  for await (const { tokens } of generate(model, prompts, options))
    for (const { row, id } of tokens) rows[row]!.push(id);
  return rows;
}

// On hardware several steps are submitted ahead of what the host has seen.
describe.each(['native', 'hardware'] as const)('generate (%s)', (variant) => {
  beforeAll(async () => {
    device = await testDevice(variant);
    model = new TinyModel(device, VOCABULARY);
  });
  afterAll(() => model.dispose());

  it.each([true, false])('a padded batch gives what each prompt gives alone (recorded: %s)', async (recorded) => {
    const expected = await Promise.all(PROMPTS.map((prompt) => greedy(prompt, 8)));
    expect(await run(PROMPTS, { maxNewTokens: 8, recorded })).toEqual(expected);
  });

  it('gives as many tokens as asked for, whatever is submitted together', async () => {
    const most = await greedy(PROMPTS[0]!, 40);
    for (const maxNewTokens of [1, 2, 8, 9, 10, 40]) {
      expect((await run([PROMPTS[0]!], { maxNewTokens }))[0]).toEqual(most.slice(0, maxNewTokens));
    }
  });

  it('prompts of one length need no padding', async () => {
    const prompts = [
      [4, 5],
      [6, 7],
    ];
    const expected = await Promise.all(prompts.map((prompt) => greedy(prompt, 5)));
    expect(await run(prompts, { maxNewTokens: 5 })).toEqual(expected);
  });

  it('has the logits of a pass without a cache at every step', async () => {
    const batch = padPrompts('test', PROMPTS, VOCABULARY);
    const session = new DecodeSession(model, batch, batch.length + 4, { greedy: false, recorded: true });
    const ids = PROMPTS.map((prompt) => [...prompt]);
    let { logits } = await session.prefill(batch);
    for (let step = 0; step < 5; step++) {
      for (const [row, sequence] of ids.entries()) {
        const got = logits!.slice(row * VOCABULARY, (row + 1) * VOCABULARY);
        // Float32 sums in another order.
        expect(relativeError(got, await logitsAfter(sequence))).toBeLessThan(1e-5);
        sequence.push((step * 7 + row) % VOCABULARY);
      }
      if (step < 4) ({ logits } = await session.step(Int32Array.from(ids, (sequence) => sequence.at(-1)!)));
    }
    session.dispose();
  });

  it('ends rows at a stop token, one by one', async () => {
    const free = await run(PROMPTS, { maxNewTokens: 8 });
    const stop = free[0]![2]!;
    const expected = free.map((ids) => {
      const end = ids.indexOf(stop);
      return end < 0 ? ids : ids.slice(0, end + 1);
    });
    expect(expected[0]!.length).toBeLessThan(8);
    const finishes: (string | undefined)[] = [];
    const rows: number[][] = PROMPTS.map(() => []);
    for await (const { tokens } of generate(model, PROMPTS, { maxNewTokens: 8, stopTokenIds: [stop] })) {
      for (const { row, id, finish } of tokens) {
        rows[row]!.push(id);
        if (finish) finishes[row] = finish;
      }
    }
    expect(rows).toEqual(expected);
    expect(finishes).toEqual(expected.map((ids) => (ids.at(-1) === stop ? 'stop' : 'length')));
  });

  it('samples by the seed, each row for itself', async () => {
    const options = { maxNewTokens: 6, temperature: 1.5, topK: 20, topP: 0.95, seed: 5 };
    const first = await run(PROMPTS, options);
    expect(await run(PROMPTS, options)).toEqual(first);
    expect(await run(PROMPTS, { ...options, seed: 6 })).not.toEqual(first);
    expect((await run([PROMPTS[0]!], options))[0]).toEqual(first[0]);
    expect(await run(PROMPTS, { ...options, topK: 1 })).toEqual(await run(PROMPTS, { maxNewTokens: 6 }));
  });

  it.each(['end', 'break', 'abort', 'abort at once', 'error'])('leaks nothing: %s', async (way) => {
    await run(PROMPTS, { maxNewTokens: 3 });
    const before = device.statistics().liveBuffers;
    const abort = new AbortController();
    const reason = new Error('enough');
    if (way === 'abort at once') abort.abort(reason);
    let steps = 0;
    const work = async () => {
      for await (const { step } of generate(model, PROMPTS, { maxNewTokens: 6, signal: abort.signal })) {
        steps++;
        if (step !== 2) continue;
        if (way === 'break') break;
        if (way === 'abort') abort.abort(reason);
        if (way === 'error') throw reason;
      }
    };
    if (way === 'end' || way === 'break') await work();
    else await expect(work()).rejects.toBe(reason);
    expect(steps).toBe(way === 'end' ? 6 : way === 'abort at once' ? 0 : 3);
    expect(device.statistics().liveBuffers).toBe(before);
  });

  it.each([0, 1])('says that logits are not finite (temperature %d)', async (temperature) => {
    const broken = new TinyModel(device, VOCABULARY);
    const values = await broken.headWeight.read();
    values[8 * 5 + 3] = Number.NaN;
    broken.headWeight.write(values);
    const before = device.statistics().liveBuffers;
    const work = generate(broken, PROMPTS, { temperature }).next();
    await expect(work).rejects.toMatchObject({ code: 'data', message: expect.stringMatching(/NaN|not finite/) });
    expect(device.statistics().liveBuffers).toBe(before);
    broken.dispose();
  });

  it('replays without new pipelines or a growing program', async () => {
    await run([[1, 2]], { maxNewTokens: 3 });
    const { pipelines } = device.statistics();
    await run([[1, 2]], { maxNewTokens: 12 });
    expect(device.statistics().pipelines).toBe(pipelines);
  });

  it.each([
    [[], {}, /no prompts/],
    [[[1], []], {}, /prompt 1 has no tokens/],
    [[[1, VOCABULARY]], {}, /prompt 0 has 37 at position 1; expected an id from 0 to 36/],
    [[[0.5]], {}, /0.5 at position 0/],
    [[[1]], { maxNewTokens: 0 }, /maxNewTokens must be a positive integer, got 0/],
    [[[1]], { temperature: -1 }, /temperature must be/],
    [[[1]], { temperature: Number.NaN }, /temperature must be/],
    [[[1]], { topK: 0 }, /topK must be/],
    [[[1]], { topP: 0 }, /topP must be/],
    [[[1]], { seed: 0.5 }, /seed must be/],
  ] as const)('refuses %j with %j', async (prompts, options, message) => {
    await expect(run(prompts as unknown as number[][], options)).rejects.toThrow(message);
  });
});
