import { describe, expect, it, vi } from 'vitest';
import { tensor, zeros } from '../../core/create.js';
import { valueAndGradients } from '../../core/gradients.js';
import { scope } from '../../core/scope.js';
import {
  checkOp,
  normalValues,
  relativeError,
  type TestVariant,
  testDevice,
  uniformSource,
} from '../../testing/index.js';
import { sum } from '../reduce/index.js';
import { attention, attentionOp } from './index.js';
import { type AttentionCase, maskInputs } from './test-case.js';

// float32 scores of size ~10, exponentiated: 1e-6 of relative error each, averaged over the keys; the gradient
// subtracts two sums of like size.
const TOLERANCE = { forward: 3e-6, gradient: 1e-5, numeric: 1e-5 };

interface Case extends AttentionCase {
  readonly width?: number;
}

function opCase(c: Case) {
  const {
    batch = 2,
    queries,
    keys = queries,
    heads = 2,
    keyHeads = heads,
    keySize = 16,
    valueSize = keySize,
    magnitude = 1,
  } = c;
  const width = c.width ?? valueSize;
  const normal = (_: number, random: () => number) =>
    magnitude * Math.sqrt(-2 * Math.log(1 - random())) * Math.cos(2 * Math.PI * random());
  return {
    inputs: [
      { shape: [batch, queries, heads, keySize], values: normal },
      { shape: [batch, keys, keyHeads, keySize], values: normal },
      { shape: [batch, keys, keyHeads, width] },
      ...maskInputs(c, batch, keys),
    ],
    attributes: { scale: keySize ** -0.5, ...(width !== valueSize && { valueSize }) },
  };
}

/** Documents of 11 tokens, the last 9 tokens of each row padding. */
const documents = (length: number) => (i: number) => (i % length >= length - 9 ? -1 : Math.floor((i % length) / 11));
/** Left padding of 5 tokens in every row but the first. */
const leftPadded = (length: number) => (i: number) => (i >= length && i % length < 5 ? -1 : 0);

const cases = (list: Record<string, Case>) => Object.entries(list);
const run = async (variant: TestVariant, c: Case, tolerance = TOLERANCE) =>
  checkOp(await testDevice(variant), attentionOp, opCase(c), tolerance);

describe('attention', () => {
  // Cases share sizes, and so compiled kernels, where they can.
  it.each(
    cases({
      'one token': { queries: 1 },
      'three tokens': { queries: 3 },
      '63 tokens, four heads a key head': { queries: 63, keyHeads: 1 },
      '130 tokens, wider keys than values': { queries: 130, batch: 1, heads: 2, keySize: 24, valueSize: 16 },
      '500 tokens': { queries: 500, batch: 1, heads: 1, keyHeads: 1, keySize: 4 },
      'odd head sizes': { queries: 63, batch: 1, heads: 3, keyHeads: 1, keySize: 5, valueSize: 12 },
      'heads too large to share lanes': { queries: 20, batch: 1, heads: 2, keySize: 92, valueSize: 8 },
      'packed documents with padding': { queries: 63, segments: documents(63) },
      'segments that are not contiguous': { queries: 40, segments: (_, random) => Math.floor(3 * random()) },
      'left padding with a cache': {
        queries: 3,
        keys: 20,
        segments: () => 0,
        keySegments: leftPadded(20),
        keyLength: 17,
      },
      'a part of the cache, one query': { queries: 1, keys: 70, keyLength: 37 },
      'a part of the cache, three queries': { queries: 3, keys: 70, keyLength: 37 },
      'a part of the cache, many queries': { queries: 20, keys: 70, keyLength: 37 },
      'values inside wider rows': { queries: 9, keyHeads: 1, keySize: 12, valueSize: 8, width: 12 },
    }),
  )('agrees with its reference: %s', async (_, c) => run('native', c));

  // One set of sizes and masks, because software adapters compile kernels with barriers slowly.
  const sizes = { keySize: 64, valueSize: 13 };
  it.each(
    cases({
      'one token': { queries: 1, segments: () => 0, ...sizes },
      '75 tokens, documents': { queries: 75, batch: 1, segments: documents(75), ...sizes },
      'a part of the cache': {
        queries: 40,
        keys: 75,
        segments: (i) => (i % 40 > 30 ? 1 : 0),
        keySegments: leftPadded(75),
        keyLength: 70,
        ...sizes,
      },
      'three queries, left padding with a cache': {
        queries: 3,
        keys: 150,
        keyHeads: 1,
        keySize: 132,
        segments: () => 0,
        keySegments: leftPadded(150),
        keyLength: 139,
      },
      'one query, two heads a key head': { queries: 1, keys: 600, keyHeads: 1, keySize: 32, keyLength: 555 },
      'three queries of two heads, left padding': {
        queries: 3,
        keys: 150,
        keyHeads: 1,
        keySize: 32,
        segments: () => 0,
        keySegments: leftPadded(150),
        keyLength: 139,
      },
      'one query, odd head sizes': { queries: 1, keys: 260, heads: 3, keyHeads: 3, keySize: 133, valueSize: 7 },
    }),
  )('agrees with its reference in its variant for hardware: %s', async (_, c) => run('hardware', c));

  // Scores reach ±400, where float32 has an absolute error of 2e-5 left: that much relative error in each probability.
  it('is stable with large scores', async () => {
    const c = { queries: 63, batch: 1, magnitude: 10 };
    await run('native', c, { forward: 1e-4, gradient: 1e-3, numeric: 1e-3 });
  });

  it('never reads keys past the valid ones', async () => {
    const filled = (i: number, random: () => number) => (i >= 37 * 8 ? Number.NaN : random() - 0.5);
    for (const queries of [1, 20]) {
      const { inputs, attributes } = opCase({
        batch: 1,
        queries,
        keys: 70,
        keyLength: 37,
        heads: 1,
        keyHeads: 1,
        keySize: 8,
      });
      const [q, k, v, ...rest] = inputs;
      const withGarbage = [q, { ...k!, values: filled }, { ...v!, values: filled }, ...rest];
      await checkOp(await testDevice(), attentionOp, { inputs: withGarbage, attributes }, TOLERANCE);
    }
  });

  it.each(['native', 'hardware'] as const)('takes one latent cache as keys and values (%s)', async (variant) => {
    const device = await testDevice(variant);
    const random = uniformSource(5);
    const q = normalValues([1, 1, 2, 576], random);
    const cache = normalValues([1, 150, 1, 576], random);
    const expected = attentionOp.reference.forward([q, cache, cache], { scale: 0.1, valueSize: 512 })[0]!;
    const before = device.statistics().liveBuffers;
    const rows = tensor(device, cache.data, cache.shape);
    const query = tensor(device, q.data, q.shape);
    const y = attention(query, rows, rows, { scale: 0.1, valueSize: 512 });
    expect(relativeError(await y.read(), expected.data)).toBeLessThan(TOLERANCE.forward);
    expect(() => valueAndGradients(() => sum(attention(query, rows, rows, { valueSize: 512 })), [rows])).toThrow(
      /attention: v has no gradient with valueSize 512/,
    );
    for (const t of [rows, query, y]) t.dispose();
    expect(device.statistics().liveBuffers).toBe(before);
  });

  it.each([
    { batch: 1, queries: 1, heads: 32, keySize: 160, valueSize: 128, keys: 150, keyLength: 141 },
    { batch: 2, queries: 1, heads: 16, keySize: 80, valueSize: 64, keys: 70, keyLength: 70, padded: true },
    { batch: 1, queries: 3, heads: 32, keySize: 80, valueSize: 64, keys: 64, keyLength: 3, magnitude: 6 },
    // So many rows that a workgroup takes several steps, of which later ones raise what the softmax is taken against.
    { batch: 264, queries: 1, heads: 16, keySize: 80, valueSize: 64, keys: 150, keyLength: 149, magnitude: 6 },
    // Heads that do not fill their tiles, and values whose columns the subgroups cannot share evenly.
    { batch: 2, queries: 1, heads: 24, keySize: 96, valueSize: 64, keys: 150, keyLength: 140 },
    { batch: 1, queries: 2, heads: 12, keySize: 144, valueSize: 80, keys: 70, keyLength: 70, padded: true },
  ])('takes a latent cache to the matrix units: %o', async (c) => {
    const device = await testDevice('matrix');
    if (device.info.subgroupMatrix.length === 0) return;
    const { batch, queries, heads, keySize, valueSize, keys, keyLength, padded = false, magnitude = 1 } = c;
    const random = uniformSource(6);
    const exact = (shape: number[], size: number) => {
      const host = normalValues(shape, random);
      return { ...host, data: host.data.map((v) => Math.round(v * size * 64) / 64) };
    };
    const q = exact([batch, queries, heads, keySize], magnitude);
    const cache = exact([batch, keys, 1, keySize], 1);
    const host = (values: Int32Array, shape: number[]) => ({ shape, data: Float64Array.from(values) });
    const segments = new Int32Array(batch * queries);
    const keySegments = Int32Array.from({ length: batch * keys }, (_, i) => leftPadded(keys)(i));
    const length = Int32Array.of(keyLength);
    const expected = attentionOp.reference.forward(
      [
        q,
        cache,
        cache,
        ...(padded ? [host(segments, [batch, queries]), host(keySegments, [batch, keys])] : [undefined, undefined]),
        host(length, [1]),
      ],
      { scale: 0.1, valueSize },
    )[0]!;
    // What was never written may be anything.
    for (let row = 0; row < batch; row++)
      cache.data.fill(Number.NaN, (row * keys + keyLength) * keySize, (row + 1) * keys * keySize);
    const before = device.statistics().liveBuffers;
    const dispatched = vi.spyOn(device, 'dispatch');
    const y = scope(() => {
      const rows = tensor(device, cache.data, cache.shape, { dtype: 'float16' });
      const query = tensor(device, q.data, q.shape, { dtype: 'float16' });
      return attention(query, rows, rows, {
        scale: 0.1,
        valueSize,
        keyLength: tensor(device, length),
        ...(padded && {
          segments: tensor(device, segments, [batch, queries]),
          keySegments: tensor(device, keySegments, [batch, keys]),
        }),
      });
    });
    expect(dispatched.mock.calls.map(([{ name }]) => name)).toContain('attention_decode_matrix');
    dispatched.mockRestore();
    // Probabilities and results are rounded to float16.
    expect(relativeError(await y.read(), expected.data)).toBeLessThan(1e-3);
    y.dispose();
    expect(device.statistics().liveBuffers).toBe(before);
  });

  // Inputs are exact in float16; outputs are rounded to its 11 bits, and so is the y that the gradient subtracts.
  it('computes in float32 on float16 tensors, where the adapter has them', async () => {
    const device = await testDevice();
    const { inputs, attributes } = opCase({ queries: 40, batch: 1, keySize: 4 });
    const exact = (_: number, random: () => number) => Math.round(random() * 256 - 128) / 64;
    const halves = inputs.map((input) => input && { ...input, dtype: 'float16' as const, values: exact });
    const check = checkOp(device, attentionOp, { inputs: halves, attributes }, { forward: 5e-4, gradient: 2e-3 });
    if (device.info.float16) await check;
    else await expect(check).rejects.toThrow(/float16/);
  });

  it('gives gradients only where they are wanted, and frees everything', async () => {
    const device = await testDevice();
    const before = device.statistics().liveBuffers;
    const make = () => tensor(device, normalValues([1, 5, 2, 4], uniformSource(3)).data, [1, 5, 2, 4]);
    const [q, k, v] = [make(), make(), make()];
    const { value, gradients } = valueAndGradients(() => sum(attention(q, k, v)), [v]);
    // Rows of probabilities sum to 1, so the gradients of a sum do too.
    let total = 0;
    for (const g of await gradients[0]!.read()) total += g;
    expect(total).toBeCloseTo(5 * 2 * 4, 3);
    for (const t of [q, k, v, value, ...gradients]) t?.dispose();
    expect(device.statistics().liveBuffers).toBe(before);
  });

  it('names what does not fit', async () => {
    const device = await testDevice();
    scope(() => {
      const of = (...shape: number[]) => zeros(device, shape);
      const ids = (...shape: number[]) => zeros(device, shape, { dtype: 'int32' });
      const q = of(1, 3, 4, 8);
      expect(() => attention(q, of(1, 3, 2, 6), of(1, 3, 2, 8))).toThrow(/attention: k must be \[1, Tk, Hkv, 8\]/);
      expect(() => attention(q, of(1, 3, 3, 8), of(1, 3, 3, 8))).toThrow(/heads that divides q's 4/);
      expect(() => attention(q, of(1, 2, 2, 8), of(1, 2, 2, 8))).toThrow(/at least as long as q's 3 tokens/);
      expect(() => attention(q, q, of(1, 2, 4, 8))).toThrow(/attention: v must be/);
      expect(() => attention(q, q, q, { valueSize: 9 })).toThrow(/valueSize must be an integer from 1/);
      expect(() => attention(q, q, q, { segments: of(1, 3) })).toThrow(/segments must be int32/);
      expect(() => attention(q, q, q, { segments: ids(1, 4) })).toThrow(/segments must be \[1, 3\]/);
      expect(() => attention(q, of(1, 5, 4, 8), of(1, 5, 4, 8), { segments: ids(1, 3) })).toThrow(
        /keySegments must be given/,
      );
      expect(() => attention(q, q, q, { keySegments: ids(1, 3) })).toThrow(/segments must be given/);
      expect(() => attention(q, q, q, { keyLength: ids(2) })).toThrow(/keyLength must be \[1\]/);
    });
  });
});
