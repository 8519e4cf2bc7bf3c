import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdir, mkdtemp, readdir, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout } from 'node:timers/promises';
import { fileURLToPath } from 'node:url';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { tensor } from '../core/create.js';
import { openSafetensors } from '../safetensors/index.js';
import { testDevice } from '../testing/index.js';
import { CHECKPOINT_FILE, hasCheckpoint } from './checkpoint.js';
import { appendMetrics } from './metrics-file.js';
import { packDocuments } from './packing.js';
import { drain, pointSource, regression } from './test-run.js';
import { train } from './train.js';
import type { TrainOptions } from './train-options.js';

const device = await testDevice();
let before = 0;
let folder = '';
beforeEach(async () => {
  before = device.statistics().liveBuffers;
  folder = await mkdtemp(join(tmpdir(), 'zebra-train-'));
});
afterEach(async () => {
  expect(device.statistics().liveBuffers).toBe(before);
  await rm(folder, { recursive: true });
});

/** A run in new objects. */
async function runAll(changes: Partial<TrainOptions>) {
  const model = regression(device, changes);
  const done = await drain(train(model.options));
  const weights = [...(await model.weight.read()), ...(await model.bias.read())];
  model.dispose();
  return { ...done, weights, numbers: done.metrics.map((m) => [m.step, m.loss, m.gradientNorm, m.learningRate]) };
}

describe('a resumed run', () => {
  it.each([
    ['ended', 1],
    ['was aborted', 1],
    ['failed', 2],
  ])('that %s goes on bit for bit (accumulate %i)', async (how, accumulate) => {
    const whole = await runAll({ accumulate });
    const controller = new AbortController();
    const source = pointSource(12);
    let batches = 0;
    const first: Partial<TrainOptions> = { accumulate, checkpoint: { folder, every: 4 } };
    if (how === 'ended') await runAll({ ...first, steps: 4 });
    else if (how === 'failed') {
      const next = () => {
        if (++batches === 5 * accumulate + 2) throw new Error('power cut');
        return source.next();
      };
      expect((await runAll({ ...first, data: { ...source, next } })).error!.message).toBe('power cut');
    } else {
      const model = regression(device, { ...first, checkpoint: { folder, every: 100 }, signal: controller.signal });
      const run = train(model.options);
      await run.next();
      await run.next();
      await run.next();
      controller.abort();
      const { error, metrics } = await drain(run);
      expect(error!.name).toBe('AbortError');
      expect(metrics.map((m) => m.step)).toEqual([4]);
      model.dispose();
    }
    const rest = await runAll({ accumulate, checkpoint: { folder, every: 4 }, resume: true });
    expect(rest.error).toBeUndefined();
    expect(rest.numbers).toEqual(whole.numbers.slice(4));
    expect(rest.weights).toEqual(whole.weights);
    expect(rest.result).toMatchObject({ tokens: whole.result!.tokens, checkpoint: join(folder, CHECKPOINT_FILE) });
    const nothing = await runAll({ accumulate, checkpoint: { folder, every: 4 }, resume: true });
    expect(nothing.metrics).toEqual([]);
    expect(nothing.weights).toEqual(whole.weights);
  });

  it('that was killed goes on bit for bit, and so does its metrics file', async () => {
    const script = fileURLToPath(new URL('./kill-child.ts', import.meta.url));
    const child = spawn(process.execPath, ['--conditions=@zebra/source', '--import', 'tsx', script, folder], {
      stdio: ['ignore', 'ignore', 'inherit'],
    });
    const exit = once(child, 'exit');
    const path = join(folder, 'metrics.jsonl');
    const lines = async () => (await readFile(path, 'utf8').catch(() => '')).trim().split('\n');
    for (let wait = 0; wait < 6000 && child.exitCode === null && (await lines()).length < 5; wait++)
      await setTimeout(10);
    child.kill('SIGKILL');
    expect((await exit)[1]).toBe('SIGKILL');
    expect((await lines()).length).toBeGreaterThanOrEqual(5);
    const saved = await openSafetensors(join(folder, CHECKPOINT_FILE));
    const { step } = JSON.parse(saved.metadata.get('state')!) as { step: number };
    await saved.close();
    expect(step).toBeGreaterThanOrEqual(4);
    const steps = step + 5;
    const model = regression(device, { steps, checkpoint: { folder, every: 2 }, resume: true });
    {
      await using file = await appendMetrics(path);
      for await (const metrics of train(model.options)) await file.write(metrics);
    }
    model.dispose();
    const whole = await runAll({ steps });
    const logged = (await lines()).map((line) => JSON.parse(line) as { step: number; loss: number });
    expect(logged.map((m) => [m.step, m.loss])).toEqual(whole.metrics.map((m) => [m.step, m.loss]));
  });

  it('keeps as many numbered checkpoints as asked for, from any of which a run goes on', async () => {
    const checkpoint = { folder, every: 2, keep: 2 };
    const whole = await runAll({ checkpoint });
    expect((await readdir(folder)).sort()).toEqual([
      'checkpoint-6.safetensors',
      'checkpoint-8.safetensors',
      CHECKPOINT_FILE,
    ]);
    const from = join(folder, 'checkpoint-6.safetensors');
    const rest = await runAll({ checkpoint, resume: from });
    expect(rest.numbers).toEqual(whole.numbers.slice(6));
    const elsewhere = await runAll({ checkpoint: { folder: join(folder, 'new'), every: 10 }, resume: from });
    expect(elsewhere.numbers).toEqual(rest.numbers);
    expect(await hasCheckpoint(join(folder, 'new'))).toBe(true);
  });
});

describe('a checkpoint', () => {
  it('holds parameters and moments by name', async () => {
    const { weights } = await runAll({ checkpoint: { folder, every: 100 } });
    await using file = await openSafetensors(join(folder, CHECKPOINT_FILE));
    expect([...file.names].sort()).toEqual([
      'bias',
      'optimizer.bias.m',
      'optimizer.bias.v',
      'optimizer.weight.m',
      'optimizer.weight.v',
      'weight',
    ]);
    expect([...(await file.readFloat32('weight')), ...(await file.readFloat32('bias'))]).toEqual(weights);
    expect(await readdir(folder)).toEqual([CHECKPOINT_FILE]);
  });

  it('is not replaced by a run that does not go on with it, unless asked', async () => {
    const { weights } = await runAll({ steps: 2, checkpoint: { folder, every: 1 } });
    const refused = await runAll({ steps: 2, checkpoint: { folder, every: 1 } });
    expect(refused.error!.message).toMatch(/holds the checkpoint of another run/);
    const other = join(folder, 'other');
    await runAll({ steps: 1, checkpoint: { folder: other, every: 1 } });
    expect((await runAll({ checkpoint: { folder, every: 1 }, resume: other })).error!.message).toMatch(/another run/);
    const again = await runAll({ steps: 2, checkpoint: { folder, every: 1, overwrite: true } });
    expect(again.weights).toEqual(weights);
  });

  it('of a run about to give up is not written', async () => {
    const source = pointSource(12);
    const next = () => ({ ...source.next(), y: new Array<number>(12).fill(Number.NaN) });
    const { error } = await runAll({ data: { ...source, next }, checkpoint: { folder, every: 3 } });
    expect(error!.message).toMatch(/up to step 3/);
    expect(await hasCheckpoint(folder)).toBe(false);
  });

  it('must be there, whole, and of the same parameters and data', async () => {
    const check = async (changes: Partial<TrainOptions> = {}) =>
      (await runAll({ checkpoint: { folder, every: 9 }, resume: true, ...changes })).error!;
    expect(await check()).toMatchObject({
      code: 'io',
      message: expect.stringMatching(/there is no checkpoint .*folder/),
    });
    await runAll({ steps: 2, checkpoint: { folder, every: 1 } });

    using wide = tensor(device, new Float32Array(9));
    const { parameters, dispose } = regression(device);
    const others = new Map(parameters).set('weight', wide).set('more', wide.alias());
    others.get('more')!.dispose();
    using more = tensor(device, [1]);
    others.set('more', more).delete('bias');
    const { message } = await check({ parameters: others });
    expect(message).toMatch(/weight has shape \[7\], the parameter \[9\]/);
    expect(message).toMatch(/missing more \[1\]/);
    expect(message).toMatch(/unexpected bias/);
    dispose();

    const options = { batchSize: 1, length: 2, seed: 1, boundaries: 'reset' } as const;
    const elsewhere = regression(device, { data: packDocuments([[1, 2]], options), resume: folder });
    expect((await drain(train(elsewhere.options))).error).toMatchObject({ code: 'data' });
    // What was refused has changed nothing.
    expect([...(await elsewhere.weight.read())]).toEqual([...new Float32Array(7).fill(0.1)]);
    elsewhere.dispose();

    const path = join(folder, CHECKPOINT_FILE);
    const bytes = await readFile(path);
    const text = bytes.toString('latin1');
    await writeFile(path, Buffer.from(text.replace('"version":"1"', '"version":"9"'), 'latin1'));
    expect((await check()).message).toMatch(/has version 9, this package reads version 1/);
    await writeFile(path, Buffer.from(text.replace('zebra-training', 'another-format'), 'latin1'));
    expect((await check()).message).toMatch(/no training checkpoint/);
    await writeFile(path, Buffer.from(text.replace('\\"step\\":2', '\\"step\\":x'), 'latin1'));
    expect((await check()).message).toMatch(/no JSON/);
    await writeFile(path, Buffer.from(text.replace('\\"step\\":2', '\\"stap\\":2'), 'latin1'));
    expect((await check()).message).toMatch(/lacks a step count/);
    await writeFile(path, bytes.subarray(0, bytes.length - 3));
    expect(await check()).toMatchObject({ name: 'SafetensorsError' });
  });

  it('needs a folder that can be written to, before the first step', async () => {
    const file = join(folder, 'file');
    await writeFile(file, '');
    const { error, metrics } = await runAll({ checkpoint: { folder: join(file, 'below'), every: 1 } });
    expect(error).toMatchObject({ code: 'io', message: expect.stringMatching(/can't be written to/) });
    expect(metrics).toEqual([]);
  });
});

describe('appendMetrics', () => {
  const read = async (path: string) => (await readFile(path, 'utf8')).split('\n');
  const line = (step: number, loss = step) => JSON.stringify({ step, loss });

  it('drops lines of the first step written and later, and a torn one', async () => {
    const path = join(folder, 'deep', 'metrics.jsonl');
    {
      await using file = await appendMetrics(path);
      for (const step of [1, 2, 3]) await file.write({ step, loss: step } as { step: number });
      expect(await read(path)).toEqual([line(1), line(2), line(3), '']);
    }
    await writeFile(path, `${line(1)}\n${line(2)}\n${line(3)}\n{"step":4,"lo`);
    const file = await appendMetrics(path);
    await file.write({ step: 3, loss: 30 } as { step: number });
    await file.write({ step: 4, loss: Number.NaN } as { step: number });
    expect(await read(path)).toEqual([line(1), line(2), line(3, 30), '{"step":4,"loss":null}', '']);
    await file.close();
    await file.close();
    await expect(file.write({ step: 5 })).rejects.toThrow(/is closed/);
    await writeFile(path, `${line(1)}\n{"step":2`);
    await using torn = await appendMetrics(path);
    await torn.write({ step: 3 });
    expect(await read(path)).toEqual([line(1), '{"step":3}', '']);
  });

  it('says where it cannot write', async () => {
    await mkdir(join(folder, 'taken'));
    await expect(appendMetrics(join(folder, 'taken'))).rejects.toMatchObject({ code: 'io' });
  });
});
