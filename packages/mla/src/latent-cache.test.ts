import { scope, type Tensor, tensor } from '@zebra/tensor';
import { SequenceCache } from '@zebra/tensor/nn';
import { relativeError, testDevice } from '@zebra/tensor/testing';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { hidden, integers, SMALL, smallLayer, VARIANTS } from '../test/small.js';
import type { MlaLayer } from './index.js';

// The same float32 sums, of a few dozen products, in another order.
const SAME = 1e-5;

const device = await testDevice();
let before = 0;
beforeEach(() => {
  before = device.statistics().liveBuffers;
});
afterEach(() => {
  expect(device.statistics().liveBuffers).toBe(before);
});

const range = (from: number, to: number) => Array.from({ length: to - from }, (_, i) => from + i);

/** One pass over new tokens, as a model would run it. Positions and segments are given as rows. */
function pass(
  layer: MlaLayer,
  cache: SequenceCache,
  x: Float32Array,
  given: { positions?: number[][]; segments?: number[][] } = {},
): Tensor {
  const tokens = x.length / (cache.batch * layer.config.hiddenSize);
  return scope(() => {
    const positions = given.positions && integers(device, given.positions);
    const segments = given.segments && integers(device, given.segments);
    const x_BTD = tensor(device, x, [cache.batch, tokens, layer.config.hiddenSize]);
    return cache.pass(tokens, segments, (context, [state]) =>
      layer.forward(x_BTD, { positions, segments, cache: context }, state),
    );
  });
}

/** Reads tensors and frees them. */
async function readAll(tensors: readonly Tensor[]): Promise<number[][]> {
  const values = await Promise.all(tensors.map((item) => item.read()));
  for (const item of tensors) item.dispose();
  return values.map((data) => [...data]);
}

describe('a latent cache', () => {
  const TOKENS = 9;

  it.each(Object.entries(VARIANTS))('%s: whole, in chunks and step by step, absorbed or not', async (_name, config) => {
    const size = config.hiddenSize;
    const x = hidden(1, TOKENS, size);
    const cut = (from: number, to: number) => x.subarray(from * size, to * size);
    // The sizes alone are what is awkward, and attention compiles a kernel for each.
    const ways = config.kvLoraRank % 4 === 0 ? (['auto', 'always', 'never'] as const) : (['auto'] as const);
    for (const absorb of ways) {
      using made = smallLayer(device, config, { absorb });
      const { layer } = made;
      using input = tensor(device, x, [1, TOKENS, size]);
      const [whole] = await readAll([layer.forward(input, {})]);
      for (const starts of [[0], [0, 5, 6], [0, 1, 4], range(0, TOKENS)]) {
        const cache = new SequenceCache(device, 1, TOKENS + 3, [layer.newState(1, TOKENS + 3)]);
        const parts = starts.map((from, k) => {
          const to = starts[k + 1] ?? TOKENS;
          return pass(layer, cache, cut(from, to), { positions: [range(from, to)] });
        });
        const got = (await readAll(parts)).flat();
        cache.dispose();
        expect(relativeError(got, whole!), `${absorb}, from ${starts}`).toBeLessThanOrEqual(SAME);
      }
    }
  });

  it('gives a left-padded batch what its rows give alone', async () => {
    const size = SMALL.hiddenSize;
    const [long, short, newTokens] = [7, 4, 3];
    const pads = long - short;
    const rows = [hidden(1, long + newTokens, size, 1), hidden(1, short + newTokens, size, 2)];
    for (const absorb of ['auto', 'always', 'never'] as const) {
      using made = smallLayer(device, SMALL, { absorb });
      const { layer } = made;
      const alone = await readAll(
        rows.map((row) => scope(() => layer.forward(tensor(device, row, [1, row.length / size, size]), {}))),
      );
      const cache = new SequenceCache(device, 2, 12, [layer.newState(2, 12)]);
      const padded = new Float32Array(2 * long * size).fill(0.5);
      padded.set(rows[0]!.subarray(0, long * size));
      padded.set(rows[1]!.subarray(0, short * size), (long + pads) * size);
      const prompt = pass(layer, cache, padded, {
        positions: [range(0, long), [...new Array(pads).fill(0), ...range(0, short)]],
        segments: [new Array(long).fill(0), [...new Array(pads).fill(-1), ...new Array(short).fill(0)]],
      });
      const steps = range(0, newTokens).map((step) => {
        const both = rows.map((row, b) =>
          row.subarray(([long, short][b]! + step) * size, ([long, short][b]! + step + 1) * size),
        );
        return pass(layer, cache, Float32Array.from(both.flatMap((values) => [...values])), {
          positions: [[long + step], [short + step]],
          segments: [[0], [0]],
        });
      });
      const [first, ...later] = await readAll([prompt, ...steps]);
      cache.dispose();
      const got = [first!.slice(0, long * size), first!.slice((long + pads) * size)];
      for (const step of later) for (const b of [0, 1]) got[b]!.push(...step.slice(b * size, (b + 1) * size));
      for (const b of [0, 1]) {
        expect(relativeError(got[b]!, alone[b]!), `${absorb}, row ${b}`).toBeLessThanOrEqual(SAME);
      }
    }
  });

  it('works without segments in the cache', async () => {
    using made = smallLayer(device);
    const { layer } = made;
    const x = hidden(1, 3, SMALL.hiddenSize);
    using state = layer.newState(1, 4);
    const parts = scope(() => {
      const at = range(0, 4).map((length) => tensor(device, Int32Array.of(length)));
      return range(0, 3).map((t) => {
        const token = tensor(device, x.subarray(t * SMALL.hiddenSize, (t + 1) * SMALL.hiddenSize), [
          1,
          1,
          SMALL.hiddenSize,
        ]);
        const cache = { length: at[t]!, keyLength: at[t + 1]!, fresh: t === 0 };
        return layer.forward(token, { positions: integers(device, [[t]]), cache }, state);
      });
    });
    using input = tensor(device, x, [1, 3, SMALL.hiddenSize]);
    const [whole] = await readAll([layer.forward(input, {})]);
    expect(relativeError((await readAll(parts)).flat(), whole!)).toBeLessThanOrEqual(SAME);
  });

  it.each(['plain', 'norms'])('decodes in a recorded program: %s', async (name) => {
    const config = VARIANTS[name]!;
    const size = config.hiddenSize;
    using made = smallLayer(device, config);
    const { layer } = made;
    const x = hidden(1, TOKENS, size);
    using input = tensor(device, x, [1, TOKENS, size]);
    const [whole] = await readAll([layer.forward(input, {})]);

    const cache = new SequenceCache(device, 1, TOKENS, [layer.newState(1, TOKENS)]);
    const [prompt] = await readAll([pass(layer, cache, x.subarray(0, 4 * size))]);
    using token = tensor(device, new Float32Array(size), [1, 1, size]);
    using position = integers(device, [[0]]);
    using program = device.capture(() =>
      scope(() =>
        cache.pass(1, undefined, (context, [state]) =>
          layer.forward(token, { positions: position, cache: context }, state),
        ),
      ),
    );
    const got = prompt!;
    for (let t = 4; t < TOKENS; t++) {
      token.write(x.subarray(t * size, (t + 1) * size));
      position.write([t]);
      program.run();
      cache.noteReplayed(1);
      got.push(...(await program.result.read()));
    }
    program.result.dispose();
    cache.dispose();
    expect(relativeError(got, whole!)).toBeLessThanOrEqual(SAME);
  });

  it('counts its bytes', () => {
    using made = smallLayer(device);
    using state = scope(() => made.layer.newState(2, 10));
    expect([state.bytesPerToken, state.constantBytes]).toEqual([(8 + 4) * 4, 0]);
    expect(state.rows.byteLength).toBe(2 * 10 * state.bytesPerToken);
  });

  it('says what is missing or does not fit', () => {
    using made = smallLayer(device);
    using other = smallLayer(device, VARIANTS['awkward sizes']!);
    const { layer } = made;
    using state = layer.newState(1, 4);
    using foreign = other.layer.newState(1, 4);
    scope(() => {
      const x = tensor(device, hidden(1, 1, SMALL.hiddenSize), [1, 1, SMALL.hiddenSize]);
      const length = tensor(device, Int32Array.of(1));
      const cache = { length, keyLength: length, fresh: false };
      expect(() => layer.forward(x, { cache }, state)).toThrow(/context.positions must be given/);
      expect(() => layer.forward(x, {}, state)).toThrow(/a state needs context.cache/);
      expect(() => layer.forward(x, { cache }, foreign)).toThrow(/this state is not of this layer/);
      const two = tensor(device, hidden(2, 1, SMALL.hiddenSize), [2, 1, SMALL.hiddenSize]);
      expect(() => layer.forward(two, { cache }, state)).toThrow(/x must be of 1 rows/);
    });
    expect(() => layer.newState(0, 4)).toThrow(/batch must be a positive integer/);
    expect(() => layer.newState(1, 65)).toThrow(/capacity of 65 tokens passes the layer's maxPositions of 64/);
  });
});
