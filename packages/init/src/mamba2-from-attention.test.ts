import { describe, expect, test } from 'vitest';
import type { HostTensor } from './host-tensor.js';
import { InitError } from './init-error.js';
import { type Mamba2FromAttentionOptions, mamba2WeightsFromAttention } from './mamba2-from-attention.js';
import { seededRandom } from './seeded-random.testing.js';

const shape = { hiddenSize: 6, headCount: 4, keyValueHeadCount: 2, headDim: 8 };

/** Every entry its own number, so that a misplaced row shows. */
function countedWeights(): Record<string, HostTensor> {
  let next = 1;
  const tensor = (rows: number, columns: number): HostTensor => ({
    shape: [rows, columns],
    data: Float32Array.from({ length: rows * columns }, () => next++),
  });
  return {
    'q_proj.weight': tensor(32, 6),
    'k_proj.weight': tensor(16, 6),
    'v_proj.weight': tensor(16, 6),
    'o_proj.weight': tensor(6, 32),
  };
}

function convert(options: Partial<Mamba2FromAttentionOptions> = {}, seed = 1) {
  return mamba2WeightsFromAttention(countedWeights(), { ...shape, random: seededRandom(seed), ...options });
}

const softplus = (x: number) => Math.log1p(Math.exp(x));

describe('mamba2WeightsFromAttention', () => {
  test.each([
    [false, 64],
    [true, 96],
  ])('names and shapes, repeatKvBeforeConv %s', (repeatKvBeforeConv, convDim) => {
    const { weights, warnings } = convert({ repeatKvBeforeConv });
    expect(Object.fromEntries([...weights].map(([name, tensor]) => [name, tensor.shape]))).toEqual({
      'in_proj.weight': [100, 6],
      'conv1d.weight': [convDim, 1, 4],
      'conv1d.bias': [convDim],
      dt_bias: [4],
      A_log: [4],
      D: [4],
      'norm.weight': [32],
      'out_proj.weight': [6, 32],
    });
    for (const tensor of weights.values()) expect(tensor.data).toBeInstanceOf(Float32Array);
    expect(warnings).toEqual([]);
  });

  test('rows of in_proj: z, x from V, B from K, C from Q, dt', () => {
    const source = countedWeights();
    const { weights } = convert();
    const rows = (start: number, count: number) =>
      weights.get('in_proj.weight')!.data.slice(start * 6, (start + count) * 6);
    expect(rows(32, 16)).toEqual(source['v_proj.weight'].data);
    expect(rows(48, 16)).toEqual(source['k_proj.weight'].data);
    expect(rows(64, 32)).toEqual(source['q_proj.weight'].data);
    expect(weights.get('out_proj.weight')!.data).toEqual(source['o_proj.weight'].data);
    for (const value of [...rows(0, 32), ...rows(96, 4)]) expect(Math.abs(value)).toBeLessThanOrEqual(1 / Math.sqrt(6));
  });

  test('the drawn parts lie where they should', () => {
    const headCount = 256;
    const size = { hiddenSize: 2, headCount, keyValueHeadCount: headCount, headDim: 1 };
    const tensor = (...dims: number[]) => ({ shape: dims, data: new Float32Array(dims[0] * dims[1]) });
    const { weights } = mamba2WeightsFromAttention(
      {
        'q_proj.weight': tensor(headCount, 2),
        'k_proj.weight': tensor(headCount, 2),
        'v_proj.weight': tensor(headCount, 2),
        'o_proj.weight': tensor(2, headCount),
      },
      { ...size, random: seededRandom(3) },
    );
    const range = (name: string, transform: (value: number) => number = (value) => value) => {
      const values = Array.from(weights.get(name)!.data, transform);
      return [Math.min(...values), Math.max(...values)];
    };
    const expectRange = ([low, high]: number[], from: number, to: number) => {
      // Float32 rounding may step over an end by a few 1e-7; 256 draws come within 5% of both.
      expect(low).toBeGreaterThanOrEqual(from - 1e-5 * (to - from));
      expect(high).toBeLessThanOrEqual(to + 1e-5 * (to - from));
      expect(low).toBeLessThan(from + 0.05 * (to - from));
      expect(high).toBeGreaterThan(to - 0.05 * (to - from));
    };
    expectRange(range('A_log', Math.exp), 1, 16);
    expectRange(
      range('dt_bias', (value) => Math.log(softplus(value))),
      Math.log(1e-3),
      Math.log(0.1),
    );
    expectRange(range('conv1d.weight'), -0.5, 0.5);
    expectRange(range('conv1d.bias'), -0.5, 0.5);
    expect(range('D')).toEqual([1, 1]);
    expect(range('norm.weight')).toEqual([1, 1]);
  });

  test('the generator decides: same seed, same layer', () => {
    expect([...convert().weights]).toEqual([...convert().weights]);
    expect([...convert({}, 2).weights]).not.toEqual([...convert().weights]);
  });

  test('biases are dropped and norms folded with a warning', () => {
    const source = countedWeights();
    const result = mamba2WeightsFromAttention(
      {
        ...source,
        'v_proj.bias': { shape: [16], data: new Float32Array(16) },
        'k_norm.weight': { shape: [8], data: new Float32Array(8).fill(3) },
      },
      { ...shape, queryKeyScale: 'raw', random: seededRandom(1) },
    );
    expect(result.warnings.map(({ code }) => code)).toEqual(['bias-dropped', 'norm-folded']);
    expect(result.weights.get('in_proj.weight')!.data[48 * 6]).toBe(3 * source['k_proj.weight'].data[0]);
  });

  test.each([false, true])(
    'folded biases do what a bias of in_proj would (repeated before: %s)',
    (repeatKvBeforeConv) => {
      const source = countedWeights();
      const bias = (count: number, at: number) => ({
        shape: [count],
        data: Float32Array.from({ length: count }, (_, i) => Math.sin(at + i)),
      });
      const biases = { 'q_proj.bias': bias(32, 1), 'k_proj.bias': bias(16, 50), 'v_proj.bias': bias(16, 90) };
      const make = (choice: 'drop' | 'fold') =>
        mamba2WeightsFromAttention(
          { ...source, ...biases },
          { ...shape, repeatKvBeforeConv, biases: choice, random: seededRandom(1) },
        );
      const [dropped, folded] = [make('drop'), make('fold')];
      const repeat = ({ data }: HostTensor) =>
        repeatKvBeforeConv
          ? Array.from({ length: 32 }, (_, i) => data[8 * Math.floor(i / 16) + (i % 8)] as number)
          : [...data];
      const inputs = [
        ...repeat(biases['v_proj.bias']),
        ...repeat(biases['k_proj.bias']),
        ...biases['q_proj.bias'].data,
      ];
      const taps = Float64Array.from(dropped.weights.get('conv1d.weight')!.data);
      const before = dropped.weights.get('conv1d.bias')!.data;
      const after = folded.weights.get('conv1d.bias')!.data;
      expect(after).toHaveLength(inputs.length);
      inputs.forEach((input, channel) => {
        // What the convolution makes of a constant input: this much its output moves with a bias in front of it.
        const moved = taps.subarray(4 * channel, 4 * channel + 4).reduce((sum, tap) => sum + tap * input, 0);
        expect(after[channel]! - before[channel]!).toBeCloseTo(moved, 6);
      });
      for (const [name, weight] of folded.weights)
        if (name !== 'conv1d.bias') expect(weight.data).toEqual(dropped.weights.get(name)!.data);
      expect(folded.warnings.map(({ code }) => code)).toEqual(['bias-folded', 'bias-folded', 'bias-folded']);
      expect(dropped.warnings.map(({ code }) => code)).toEqual(['bias-dropped', 'bias-dropped', 'bias-dropped']);
    },
  );

  test('refuses bad input', () => {
    expect(() => convert({ headDim: 4 })).toThrow(InitError);
    expect(() => convert({ headDim: 4 })).toThrow(
      /mamba2WeightsFromAttention: q_proj\.weight: expected shape \[16, 6\]/,
    );
    expect(() => convert({ convWidth: 0 })).toThrow(/convWidth/);
    expect(() => convert({ random: () => 1 })).toThrow(/random: expected numbers in \[0, 1\), got 1/);
    expect(() => convert({ random: () => Number.NaN })).toThrow(/got NaN/);
  });
});
