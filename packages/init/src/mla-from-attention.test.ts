import { describe, expect, test } from 'vitest';
import type { AttentionWeights } from './attention-weights.js';
import { type HostMatrix, type HostTensor, hostMatrix } from './host-tensor.js';
import { InitError } from './init-error.js';
import { matmul } from './linear-algebra/matrix.js';
import { product, relativeError, rows } from './matrix-comparison.testing.js';
import { assembleMlaWeights, mlaSources } from './mla-assembly.js';
import { mlaWeightsFromAttention } from './mla-from-attention.js';
import type { MlaFromAttentionOptions } from './mla-options.js';
import { seededRandom } from './seeded-random.testing.js';

const base: MlaFromAttentionOptions = {
  hiddenSize: 12,
  headCount: 4,
  keyValueHeadCount: 2,
  headDim: 8,
  qLoraRank: 12,
  kvLoraRank: 12,
  qkNopeHeadDim: 4,
  qkRopeHeadDim: 4,
  vHeadDim: 8,
};

function randomWeights(options: MlaFromAttentionOptions = base): Record<string, HostTensor> {
  const { hiddenSize: d, headCount, keyValueHeadCount, headDim } = options;
  const random = seededRandom(4);
  const tensor = (...shape: number[]): HostTensor => ({
    shape,
    data: Float32Array.from({ length: shape.reduce((a, b) => a * b) }, () => 2 * random() - 1),
  });
  return {
    'q_proj.weight': tensor(headCount * headDim, d),
    'k_proj.weight': tensor(keyValueHeadCount * headDim, d),
    'v_proj.weight': tensor(keyValueHeadCount * headDim, d),
    'o_proj.weight': tensor(d, headCount * headDim),
  };
}

describe('mlaWeightsFromAttention', () => {
  test('names, shapes and dtype', () => {
    const shapes = (options: Partial<MlaFromAttentionOptions>) => {
      const { weights } = mlaWeightsFromAttention(randomWeights(), { ...base, ...options });
      for (const tensor of weights.values()) expect(tensor.data).toBeInstanceOf(Float32Array);
      return Object.fromEntries([...weights].map(([name, tensor]) => [name, tensor.shape]));
    };
    expect(shapes({ qLoraRank: 6, kvLoraRank: 5, useLoraLayerNorm: true })).toEqual({
      'q_a_proj.weight': [6, 12],
      'q_a_layernorm.weight': [6],
      'q_b_proj.weight': [32, 6],
      'kv_a_proj_with_mqa.weight': [9, 12],
      'kv_a_layernorm.weight': [5],
      'kv_b_proj.weight': [24, 5],
      'out_proj.weight': [12, 32],
    });
    expect(shapes({ qLoraRank: null, kvLoraRank: 5, useFullKvHead: true })).toEqual({
      'q_proj.weight': [32, 12],
      'kv_a_proj_with_mqa.weight': [9, 12],
      'kv_b_proj.weight': [48, 5],
      'out_proj.weight': [12, 32],
    });
  });

  test('at full rank the products are rows of the attention weights', () => {
    const weights = randomWeights();
    const result = mlaWeightsFromAttention(weights, { ...base, useFullKvHead: true });
    const whole = mlaWeightsFromAttention(weights, { ...base, qLoraRank: null });
    // Two float32 factors, each rounded to 6e-8.
    expect(
      relativeError(product(result.weights, 'q_b_proj.weight', 'q_a_proj.weight'), weights['q_proj.weight']),
    ).toBeLessThan(5e-7);
    // With d_nope + d_rope = d_h the reference's rows are all rows in order.
    expect(whole.weights.get('q_proj.weight')!.data).toEqual(weights['q_proj.weight'].data);
    const keyValue = product(result.weights, 'kv_b_proj.weight', 'kv_a_proj_with_mqa.weight');
    for (let head = 0; head < 4; head++) {
      const from = Math.floor(head / 2) * 8;
      const copy = rows(keyValue, head * 12, (head + 1) * 12);
      expect(relativeError(rows(copy, 0, 4), rows(weights['k_proj.weight'], from, from + 4))).toBeLessThan(5e-7);
      expect(relativeError(rows(copy, 4, 12), rows(weights['v_proj.weight'], from, from + 8))).toBeLessThan(5e-7);
    }
    expect(result.ranks).toEqual({ query: 12, keyValue: 12 });
    expect(result.energies).toEqual({ query: 1, keyValue: 1 });
    expect(whole.ranks.query).toBeNull();
    expect(whole.energies.query).toBeNull();
  });

  test('an energy chooses the rank', () => {
    const result = mlaWeightsFromAttention(randomWeights(), {
      ...base,
      qLoraRank: { energy: 0.6 },
      kvLoraRank: { energy: 1 },
    });
    expect(result.ranks).toEqual({ query: 8, keyValue: 12 });
    expect(result.energies.query).toBeGreaterThan(0.6);
    expect(result.weights.get('q_a_proj.weight')!.shape).toEqual([8, 12]);
  });

  test('any basis of the leading subspace gives the same products', () => {
    const sources = mlaSources(randomWeights(), { ...base, qLoraRank: 12, kvLoraRank: 12 });
    const orthonormalColumns = (matrix: HostMatrix) => {
      // Orthonormal columns that span everything W_Q reaches: those of W's own Gram–Schmidt.
      const [count, d] = matrix.shape;
      const columns = Array.from({ length: d }, (_, j) =>
        Float64Array.from({ length: count }, (_, i) => matrix.data[i * d + j]),
      );
      columns.forEach((column, j) => {
        for (let k = 0; k < 2 * j; k++) {
          const before = columns[k % j];
          const dot = column.reduce((sum, value, i) => sum + value * before[i], 0);
          column.forEach((_, i) => {
            column[i] -= dot * before[i];
          });
        }
        const norm = Math.hypot(...column);
        column.forEach((_, i) => {
          column[i] /= norm;
        });
      });
      return hostMatrix(
        count,
        d,
        Float64Array.from({ length: count * d }, (_, i) => columns[i % d][Math.floor(i / d)]),
      );
    };
    const bases = { query: orthonormalColumns(sources.query), keyValue: orthonormalColumns(sources.keyValue) };
    const { weights } = assembleMlaWeights(sources, bases);
    const svd = mlaWeightsFromAttention(randomWeights(), base).weights;
    for (const [up, down] of [
      ['q_b_proj.weight', 'q_a_proj.weight'],
      ['kv_b_proj.weight', 'kv_a_proj_with_mqa.weight'],
    ]) {
      expect(relativeError(product(weights, up, down), product(svd, up, down))).toBeLessThan(1e-6);
    }
    expect(() => assembleMlaWeights(sources, { ...bases, query: null })).toThrow(/bases.query: expected 32 rows/);
  });

  test('Qwen: biases are dropped and norms folded, each with a warning', () => {
    const weights: AttentionWeights = {
      ...randomWeights(),
      'q_proj.bias': { shape: [32], data: new Float32Array(32).fill(1) },
      'q_norm.weight': { shape: [8], data: Float32Array.from({ length: 8 }, (_, i) => i + 1) },
      'k_norm.weight': { shape: [8], data: new Float32Array(8).fill(2) },
      'rotary_emb.inv_freq': { shape: [4], data: new Float32Array(4) },
    };
    const result = mlaWeightsFromAttention(weights, { ...base, qLoraRank: null });
    expect(result.warnings.map(({ code, argument }) => `${code} ${argument}`)).toEqual([
      'bias-dropped q_proj.bias',
      'tensor-ignored rotary_emb.inv_freq',
      'norm-folded q_norm.weight',
      'norm-folded k_norm.weight',
    ]);
    const options = { ...base, qLoraRank: null };
    const converted = (change: Partial<AttentionWeights>, queryKeyScale: 'expected' | 'raw') =>
      mlaWeightsFromAttention({ ...weights, ...change } as AttentionWeights, { ...options, queryKeyScale }).weights;
    const original = weights['q_proj.weight'].data;
    const folded = converted({}, 'raw').get('q_proj.weight')!.data;
    for (let i = 0; i < folded.length; i++)
      expect(folded[i]).toBeCloseTo(original[i] * ((Math.floor(i / 12) % 8) + 1), 5);
    const ropeRows = (map: Map<string, HostTensor>) => rows(map.get('kv_a_proj_with_mqa.weight')!, 12, 16).data;
    const plain = mlaWeightsFromAttention(randomWeights(), options).weights;
    expect(ropeRows(converted({}, 'raw'))).toEqual(ropeRows(plain).map((value) => 2 * value));
    // Scaled: for independent inputs of size c, the rows of a head have on average the size that the norm gives them.
    const inputs = Float32Array.from({ length: 12 }, (_, j) => 1 + j / 3);
    for (const [change, c] of [
      [{}, new Float32Array(12).fill(1)],
      [{ 'input_layernorm.weight': { shape: [12], data: inputs } }, inputs],
    ] as const) {
      const scaled = converted(change, 'expected').get('q_proj.weight')!.data;
      for (let head = 0; head < 4; head++) {
        let squares = 0;
        for (let i = head * 96; i < (head + 1) * 96; i++)
          squares += ((scaled[i]! * c[i % 12]!) / ((Math.floor(i / 12) % 8) + 1)) ** 2;
        expect(Math.sqrt(squares / 8)).toBeCloseTo(1, 5);
      }
    }
    // The default.
    expect(result.weights.get('q_proj.weight')!.data).toEqual(converted({}, 'expected').get('q_proj.weight')!.data);
    expect(() => converted({}, 'none' as 'raw')).toThrow(/queryKeyScale: expected 'expected' or 'raw', got none/);
  });

  test('rank-deficient weights are exact and warned of', () => {
    const weights = randomWeights();
    const low = matmul(rows(weights['q_proj.weight'], 0, 32), hostMatrix(12, 12));
    for (let i = 0; i < 32; i++)
      for (let j = 0; j < 12; j++) low.data[i * 12 + j] = ((i % 3) + 1) * (j + 1) + (i % 2) * (j % 5);
    const result = mlaWeightsFromAttention({ ...weights, 'q_proj.weight': low }, { ...base, qLoraRank: 6 });
    expect(relativeError(product(result.weights, 'q_b_proj.weight', 'q_a_proj.weight'), low)).toBeLessThan(5e-7);
    expect(result.warnings).toMatchObject([{ code: 'rank-above-numerical-rank', argument: 'qLoraRank' }]);
    expect(result.warnings[0].message).toMatch(/rank 6 is above the weights' numerical rank 2: 4 latent rows/);
    const zero = { shape: [32, 12], data: new Float32Array(32 * 12) };
    const nothing = mlaWeightsFromAttention(
      { ...weights, 'q_proj.weight': zero },
      { ...base, qLoraRank: { energy: 0.9 } },
    );
    expect(nothing.ranks.query).toBe(8);
    expect(nothing.weights.get('q_a_proj.weight')!.data.every((value) => value === 0)).toBe(true);
  });

  test.each<[string, Partial<MlaFromAttentionOptions>, RegExp]>([
    ['rank above the weights', { kvLoraRank: 13 }, /kvLoraRank: expected an integer from 1 to 12, .*, got 13/],
    ['fractional rank', { qLoraRank: 2.5 }, /qLoraRank: expected an integer from 1 to 12/],
    ['energy', { qLoraRank: { energy: 2 } }, /qLoraRank\.energy: expected a share .* got 2/],
    ['nope', { qkNopeHeadDim: 9 }, /qkNopeHeadDim: expected at most headDim 8, got 9/],
    ['odd rope', { qkRopeHeadDim: 3 }, /qkRopeHeadDim: expected an even number, got 3/],
    ['value', { vHeadDim: 4 }, /vHeadDim: expected headDim 8, got 4/],
    ['heads', { keyValueHeadCount: 3 }, /keyValueHeadCount: expected a divisor of headCount 4, got 3/],
    ['head size', { headDim: 4 }, /q_proj\.weight: expected shape \[16, 12\], got shape \[32, 12\]/],
    ['zero', { hiddenSize: 0 }, /hiddenSize: expected a positive integer, got 0/],
    ['no frequencies', { ropeRows: 'frequency-aware' }, /rope: expected the frequencies of both layers, got undefined/],
    ['alignment', { sharedRopeKey: 'aligned' }, /sharedRopeKey: expected 'mean', got aligned/],
    ['rope rows', { ropeRows: 'first' as 'last' }, /ropeRows: expected 'last' or 'frequency-aware', got first/],
  ])('refuses %s', (_, options, message) => {
    const convert = () => mlaWeightsFromAttention(randomWeights(), { ...base, ...options });
    expect(convert).toThrow(InitError);
    expect(convert).toThrow(message);
  });

  test('refuses missing, misshaped and non-finite tensors by name', () => {
    const convert = (change: Record<string, HostTensor | undefined>) => () =>
      mlaWeightsFromAttention({ ...randomWeights(), ...change } as AttentionWeights, base);
    expect(convert({ 'v_proj.weight': undefined })).toThrow(
      /v_proj\.weight: expected shape \[16, 12\], got no such tensor/,
    );
    expect(convert({ 'q_proj.bias': { shape: [3], data: new Float32Array(3) } })).toThrow(
      /q_proj\.bias: expected shape \[32\]/,
    );
    expect(convert({ 'o_proj.weight': { shape: [12, 32], data: new Float32Array(3) } })).toThrow(/with 3 values/);
    const bad = new Float32Array(16 * 12);
    bad[17] = Number.POSITIVE_INFINITY;
    expect(convert({ 'k_proj.weight': { shape: [16, 12], data: bad } })).toThrow(
      /k_proj\.weight: expected finite values, got Infinity at flat index 17/,
    );
  });
});
