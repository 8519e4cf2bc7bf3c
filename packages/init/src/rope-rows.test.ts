import { describe, expect, test } from 'vitest';
import type { HostTensor } from './host-tensor.js';
import { mlaWeightsFromAttention } from './mla-from-attention.js';
import { frequencyAwareRopeRows, lastRopeRows } from './rope-rows.js';
import { seededRandom } from './seeded-random.testing.js';

const frequencies = (dim: number, theta = 500000) =>
  Array.from({ length: dim / 2 }, (_, i) => theta ** ((-2 * i) / dim));

describe('lastRopeRows', () => {
  test('takes the first and the last rows', () => {
    const { queryNope, keyNope, rope } = lastRopeRows({ headDim: 8, qkNopeHeadDim: 3, qkRopeHeadDim: 4 });
    expect(queryNope).toEqual([0, 1, 2]);
    expect(keyNope).toEqual(queryNope);
    expect(rope).toEqual([4, 5, 6, 7]);
  });
});

describe('frequencyAwareRopeRows', () => {
  test('half as many rope rows at the same θ: every second teacher pair, exactly', () => {
    const choice = frequencyAwareRopeRows(
      { headDim: 16, qkNopeHeadDim: 8, qkRopeHeadDim: 8 },
      { teacherFrequencies: frequencies(16), frequencies: frequencies(8) },
    );
    expect(choice.rope).toEqual([0, 8, 2, 10, 4, 12, 6, 14]);
    expect(choice.queryNope).toEqual([1, 3, 5, 7, 9, 11, 13, 15]);
    expect(choice.keyNope).toEqual(choice.queryNope);
    expect(choice.warnings).toEqual([]);
    expect(choice.ropeScale).toBe(1);
  });

  test('uses every teacher pair once, even when several rope pairs are nearest to it', () => {
    const choice = frequencyAwareRopeRows(
      { headDim: 8, qkNopeHeadDim: 2, qkRopeHeadDim: 6 },
      { teacherFrequencies: [1, 0.1, 0.01, 0.001], frequencies: [0.012, 0.01, 0.009], amplitude: 2 },
    );
    expect(choice.rope).toEqual([1, 5, 2, 6, 3, 7]);
    expect(choice.ropeScale).toBe(0.5);
  });

  test('drops the fastest pairs when there are too few nope rows', () => {
    const choice = frequencyAwareRopeRows(
      { headDim: 8, qkNopeHeadDim: 3, qkRopeHeadDim: 2 },
      { teacherFrequencies: [1, 0.1, 0.01, 0.001], frequencies: [0.1] },
    );
    expect(choice.rope).toEqual([1, 5]);
    expect(choice.queryNope).toEqual([2, 3, 7]);
    expect(choice.warnings).toMatchObject([{ code: 'nope-rows-dropped' }]);
    expect(choice.warnings[0].message).toMatch(/^3 of 8/);
  });

  test('pads with zero keys when there are too many', () => {
    const choice = frequencyAwareRopeRows(
      { headDim: 4, qkNopeHeadDim: 3, qkRopeHeadDim: 4 },
      { teacherFrequencies: [1, 0.1], frequencies: [1, 0.1] },
    );
    expect(choice.queryNope).toEqual([1, 3, 0]);
    expect(choice.keyNope).toEqual([-1, -1, -1]);
    expect(choice.warnings[0].message).toMatch(/^3 of 3 nope rows/);
  });

  test('refuses tables that do not fit', () => {
    const sizes = { headDim: 8, qkNopeHeadDim: 4, qkRopeHeadDim: 4 };
    const choose = (teacher: number[], own: number[], amplitude?: number) => () =>
      frequencyAwareRopeRows(sizes, { teacherFrequencies: teacher, frequencies: own, amplitude });
    expect(choose([1, 1], [1, 1])).toThrow(/teacherFrequencies: expected 4 positive finite frequencies/);
    expect(choose([1, 1, 1, 1], [1, Number.NaN])).toThrow(/rope.frequencies: expected 2 .* got 2: 1, NaN/);
    expect(choose([1, 1, 1, 1], [1, 1], 0)).toThrow(/rope.amplitude/);
  });

  // One key/value head, so that the shared rotated key is no mean, and room for every pair: then MLA's scores can be
  // the attention layer's own, and are, with the frequency-aware rows.
  test('keeps the attention scores exactly where that is possible', () => {
    const dim = 8;
    const d = 10;
    const heads = 2;
    const amplitude = 1.3;
    const random = seededRandom(8);
    const tensor = (rows: number, columns: number): HostTensor => ({
      shape: [rows, columns],
      data: Float32Array.from({ length: rows * columns }, () => 2 * random() - 1),
    });
    const weights = {
      'q_proj.weight': tensor(heads * dim, d),
      'k_proj.weight': tensor(dim, d),
      'v_proj.weight': tensor(dim, d),
      'o_proj.weight': tensor(d, heads * dim),
    };
    const table = frequencies(dim, 100);
    const nope = 2;
    const options = {
      hiddenSize: d,
      headCount: heads,
      keyValueHeadCount: 1,
      headDim: dim,
      qLoraRank: null,
      kvLoraRank: 10,
      qkNopeHeadDim: nope,
      qkRopeHeadDim: dim,
      vHeadDim: dim,
      rope: { teacherFrequencies: table, frequencies: table, amplitude },
    };
    const apply = ({ shape, data }: HostTensor, x: Float64Array) =>
      Float64Array.from({ length: shape[0] }, (_, i) =>
        x.reduce((sum, value, j) => sum + data[i * shape[1] + j] * value, 0),
      );
    const rotate = (x: Float64Array, position: number, pairs: [number, number][], factor: number) => {
      const out = x.slice();
      pairs.forEach(([a, b], i) => {
        const cosine = factor * Math.cos(position * table[i]);
        const sine = factor * Math.sin(position * table[i]);
        out[a] = x[a] * cosine - x[b] * sine;
        out[b] = x[b] * cosine + x[a] * sine;
      });
      return out;
    };
    const dot = (a: Float64Array, b: Float64Array) => a.reduce((sum, value, i) => sum + value * b[i], 0);
    const halves = Array.from({ length: dim / 2 }, (_, i): [number, number] => [i, i + dim / 2]);
    const neighbours = Array.from({ length: dim / 2 }, (_, i): [number, number] => [2 * i, 2 * i + 1]);
    const x = Float64Array.from({ length: d }, random);
    const y = Float64Array.from({ length: d }, random);

    const largestError = (ropeRows: 'last' | 'frequency-aware') => {
      const mla = mlaWeightsFromAttention(weights, { ...options, ropeRows }).weights;
      const down = apply(mla.get('kv_a_proj_with_mqa.weight')!, y);
      const up = apply(mla.get('kv_b_proj.weight')!, down.subarray(0, 10));
      const queries = apply(mla.get('q_proj.weight')!, x);
      const keyRope = rotate(down.subarray(10), 3, neighbours, amplitude);
      let worst = 0;
      for (let head = 0; head < heads; head++) {
        const q = apply(weights['q_proj.weight'], x).subarray(head * dim, (head + 1) * dim);
        const k = apply(weights['k_proj.weight'], y);
        const expected = dot(rotate(q, 11, halves, 1), rotate(k, 3, halves, 1));
        const own = queries.subarray(head * (nope + dim), (head + 1) * (nope + dim));
        const queryRope = rotate(own.subarray(nope), 11, neighbours, amplitude);
        const actual = dot(own.subarray(0, nope), up.subarray(0, nope)) + dot(queryRope, keyRope);
        worst = Math.max(worst, Math.abs(actual - expected));
      }
      return worst;
    };
    expect(largestError('frequency-aware')).toBeLessThan(1e-6);
    expect(largestError('last')).toBeGreaterThan(0.1);
  });
});
