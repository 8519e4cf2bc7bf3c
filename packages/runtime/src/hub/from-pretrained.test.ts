import { cp, mkdtemp, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { testDevice } from '@zebra/tensor/testing';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { lossesByPath } from './check/same-loss.js';
import { fromPretrained } from './from-pretrained.js';

const TEACHER = fileURLToPath(new URL('../../../../examples/train-teacher/teacher', import.meta.url));

const device = await testDevice();
let work: string;
let live: number;
beforeEach(async () => {
  work = await mkdtemp(join(tmpdir(), 'zebra-pretrained-'));
  live = device.statistics().liveBuffers;
});
afterEach(async () => {
  expect(device.statistics().liveBuffers).toBe(live);
  await rm(work, { recursive: true, force: true });
});

it('a trained model has one loss by folder, hub, cache, and saved again, bit for bit', async () => {
  const { folder, ...others } = await lossesByPath(device, TEACHER, work);
  // Far below that of chance, ln 4096 = 8.3: it is the trained model.
  expect(folder).toBeGreaterThan(0.5);
  expect(folder).toBeLessThan(5);
  expect(others).toEqual({ saved: folder, hub: folder, cache: folder });
});

it.skipIf(!device.info.float16)(
  'dtype float16 gives matrices in float16, norms in float32, and a model that computes so',
  async () => {
    const { model } = await fromPretrained(device, TEACHER, { dtype: 'float16' });
    expect(model.spec.computeDType).toBe('float16');
    for (const [name, { dtype, shape }] of model.namedParameters()) {
      expect([name, dtype]).toEqual([name, shape.length === 2 ? 'float16' : 'float32']);
    }
    model.dispose();
    const mixed = await fromPretrained(device, TEACHER, { computeDType: 'float16' });
    expect(mixed.model.spec.computeDType).toBe('float16');
    expect(mixed.model.headWeight.dtype).toBe('float32');
    mixed.model.dispose();
  },
);

describe('generation_config.json', () => {
  const generationOf = async (json: unknown, changes: Record<string, unknown> = {}) => {
    const folder = join(work, 'model');
    await cp(TEACHER, folder, { recursive: true });
    const config = JSON.parse(await readFile(join(TEACHER, 'config.json'), 'utf8'));
    await writeFile(join(folder, 'config.json'), JSON.stringify({ ...config, ...changes }));
    if (json !== undefined) await writeFile(join(folder, 'generation_config.json'), JSON.stringify(json));
    const { model, generation } = await fromPretrained(device, folder);
    model.dispose();
    return generation;
  };

  it.each([
    ['its list of ends goes before that of config.json', { eos_token_id: [5, 7, 9] }, { stopTokenIds: [5, 7, 9] }],
    ['without one, that of config.json', { do_sample: false, temperature: 0.6 }, { stopTokenIds: [3, 4] }],
    ['no file', undefined, { stopTokenIds: [3, 4] }],
    [
      'sampling',
      { do_sample: true, temperature: 0.6, top_p: 0.9, top_k: 20, eos_token_id: 8 },
      { stopTokenIds: [8], temperature: 0.6, topP: 0.9, topK: 20 },
    ],
    ['sampling without numbers', { do_sample: true }, { stopTokenIds: [3, 4], temperature: 1, topK: 50 }],
    ['no limit on tokens', { do_sample: true, top_k: 0 }, { stopTokenIds: [3, 4], temperature: 1 }],
  ])('%s', async (_, json, expected) => {
    expect(await generationOf(json, { eos_token_id: [3, 4] })).toEqual(expected);
  });

  it('says nothing where nobody names an end', async () => {
    expect(await generationOf(undefined, { eos_token_id: null })).toEqual({});
  });

  it.each([
    [{ eos_token_id: 1e9 }, /generation_config\.json: eos_token_id: expected ids below vocab_size/],
    [{ eos_token_id: 'x' }, /generation_config\.json: eos_token_id/],
    [{ do_sample: true, top_p: 2 }, /generation_config\.json: top_p: expected a number above 0 and at most 1, got 2/],
  ])('%j is refused', async (json, message) => {
    await expect(generationOf(json)).rejects.toThrow(message);
  });
});
