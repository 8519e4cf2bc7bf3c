import { mkdtemp, readdir, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, beforeEach, describe, expect, it } from 'vitest';
import { scope } from '../../core/scope.js';
import { randomNormal } from '../../random/normal.js';
import { relativeError, testDevice } from '../../testing/index.js';
import { cast } from '../cast/index.js';
import { matmul } from './matmul.js';
import { picksOf, SMALL_PLAN } from './plans.js';
import { type MatmulProduct, type TunedMatmul, tuneMatmul } from './tune.js';
import { openTuneCache } from './tune-cache.js';

const native = await testDevice();
const device = await testDevice('matrix');

describe('tuneMatmul', () => {
  it('does nothing where there are no matrix units', async () => {
    expect(await tuneMatmul(native, [{ m: 64, n: 64, k: 64 }], { folder: false })).toEqual([]);
  });

  it('refuses to run while a program is captured', async () => {
    const program = native.capture(() => [tuneMatmul(native, [], { folder: false })]);
    await expect(program.result[0]).rejects.toThrow(/captured/);
    program.dispose();
  });
});

// Emulated units say nothing of speed: what is held here is that every plan gives the product, and what is kept.
describe.runIf(device.info.subgroupMatrix.length > 0)('tuneMatmul with matrix units', () => {
  let folder: string;
  beforeAll(async () => {
    folder = await mkdtemp(join(tmpdir(), 'zebra-tune-'));
  });
  beforeEach(() => picksOf(device).clear());
  afterAll(async () => {
    picksOf(device).clear();
    await rm(folder, { recursive: true });
  });

  const product: MatmulProduct = { m: 40, n: 44, k: 520, transposeB: true, dtype: 'float32' };
  const plans = [SMALL_PLAN];
  const options = { plans, sample: 0.001 };

  /** The product of the same operands every time, and how far it is from the float32 kernels' one. */
  async function multiply({ m, n, k, transposeA = false, transposeB = false, dtype = 'float16' }: MatmulProduct) {
    const made = scope(() => {
      const a = randomNormal(device, transposeA ? [k, m] : [m, k], { seed: 1, dtype: 'float16' });
      const b = randomNormal(device, transposeB ? [n, k] : [k, n], { seed: 2, dtype: 'float16' });
      const transposes = { transposeA, transposeB };
      return {
        got: matmul(a, b, { ...transposes, dtype }),
        wanted: matmul(cast(a, 'float32'), cast(b, 'float32'), transposes),
      };
    });
    const [got, wanted] = [await made.got.read(), await made.wanted.read()];
    for (const each of Object.values(made)) each.dispose();
    return { got, error: relativeError(got, wanted) };
  }

  it('keeps its picks on disk, and finds them again', async () => {
    const live = device.statistics().liveBuffers;
    const [first] = await tuneMatmul(device, [product], { ...options, folder });
    expect(device.statistics().liveBuffers).toBe(live);
    // One piece, and the two that the table says.
    expect(first!.candidates.map(({ pieces }) => pieces).sort()).toEqual([1, 2]);
    expect(first).toMatchObject({ product, cached: false, plan: SMALL_PLAN });
    const before = await multiply(product);
    expect(before.error).toBeLessThan(2e-6);
    picksOf(device).clear();
    const [again] = await tuneMatmul(device, [product], { ...options, folder });
    expect(again).toEqual({ product, plan: first!.plan, pieces: first!.pieces, cached: true, candidates: [] });
    expect((await multiply(product)).got).toEqual(before.got);
    const files = await readdir(folder);
    expect(files).toHaveLength(1);
    const content = JSON.parse(await readFile(join(folder, files[0]!), 'utf8'));
    expect(content.made).toMatchObject({ name: device.gpu.adapterInfo.device, matrices: 'emulated 16x16x16' });
  });

  it('keeps the picks of other products, and none that were made for something else or are damaged', async () => {
    const other = { ...product, n: 36 };
    await tuneMatmul(device, [other], { ...options, folder });
    picksOf(device).clear();
    const both = await tuneMatmul(device, [product, other], { ...options, folder });
    expect(both.map(({ cached }) => cached)).toEqual([true, true]);
    const file = join(folder, (await readdir(folder))[0]!);
    const whole = await readFile(file, 'utf8');
    for (const damaged of [
      whole.slice(0, 100),
      'null',
      whole.replace(/"description": "[^"]*"/, '"description": "another driver"'),
      whole.replaceAll('"pieces": ', '"pieces": -'),
      whole.replaceAll('"rows": 64', '"rows": "64"'),
    ]) {
      await writeFile(file, damaged);
      expect((await openTuneCache(device, folder))!.picks.size).toBe(0);
    }
    await writeFile(file, whole);
    expect((await openTuneCache(device, folder))!.picks.size).toBe(2);
  });

  it('falls back on the table for a plan that the adapter cannot run', async () => {
    const [{ plan: sound }] = (await tuneMatmul(device, [product], { ...options, folder })) as [TunedMatmul];
    const [key] = [...picksOf(device).keys()].filter((name) => name.startsWith('40x44'));
    for (const plan of [
      { ...sound, rows: 4096 },
      { ...sound, step: 24 },
      { ...sound, subgroupRows: 48 },
    ]) {
      picksOf(device).set(key!, { plan, pieces: 3 });
      expect((await multiply(product)).error).toBeLessThan(2e-6);
    }
  });

  it.each([
    // An odd and an even number of steps, edges; float16 results are rounded (2⁻¹¹). Few and aligned: pipelines take
    // seconds to compile, and longer where they gather elements.
    ['two buffers', { ...SMALL_PLAN, buffers: 2 }, { m: 72, n: 60, k: 88, transposeB: true, dtype: 'float32' }],
    ['two buffers', { ...SMALL_PLAN, buffers: 2 }, { m: 72, n: 60, k: 56, transposeB: true, dtype: 'float32' }],
    ['nothing ahead', { ...SMALL_PLAN, ahead: false, group: 3 }, { m: 200, n: 40, k: 48, transposeB: true }],
  ] as const)('computes with %s', async (_name, plan, given) => {
    const [tuned] = await tuneMatmul(device, [given], { folder: false, plans: [plan], sample: 0.001 });
    expect(tuned!.plan).toEqual(plan);
    expect((await multiply(given)).error).toBeLessThan('dtype' in given ? 2e-6 : 5e-4);
  });
});
