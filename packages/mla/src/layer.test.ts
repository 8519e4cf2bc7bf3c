import { cast, multiply, scope, sum, tensor, valueAndGradients } from '@zebra/tensor';
import { relativeError, testDevice, uniformSource } from '@zebra/tensor/testing';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { hidden, integers, SMALL, smallLayer, VARIANTS } from '../test/small.js';
import { createMlaWeights, MlaLayer, mlaWeightSpecs } from './index.js';

// The same float32 sums, of a few dozen products, in another order.
const SAME = 1e-5;
// Activations and weights rounded to 2⁻¹¹, six products deep.
const HALF = 1e-2;

const device = await testDevice();
let before = 0;
beforeEach(() => {
  before = device.statistics().liveBuffers;
});
afterEach(() => {
  expect(device.statistics().liveBuffers).toBe(before);
});

describe('MlaLayer', () => {
  it.each(['plain', 'norms'])('%s: documents packed into a row are as if alone, gradients too', async (name) => {
    const config = VARIANTS[name]!;
    using made = smallLayer(device, config);
    const size = config.hiddenSize;
    const x = hidden(1, 9, size);
    const up = hidden(1, 9, size, 12);
    const run = (from: number, to: number, rows: { positions?: number[][]; segments?: number[][] } = {}) =>
      scope(() => {
        const cut = (values: Float32Array) =>
          tensor(device, values.subarray(from * size, to * size), [1, to - from, size]);
        const [input, upstream] = [cut(x), cut(up)];
        const context = {
          ...(rows.positions && { positions: integers(device, rows.positions) }),
          ...(rows.segments && { segments: integers(device, rows.segments) }),
        };
        return valueAndGradients(() => {
          const y = made.layer.forward(input, context);
          return { loss: sum(multiply(y, upstream)), y };
        }, [input, made.weights.get('kv_b_proj.weight')!]);
      });
    const runs = [
      run(0, 9, { positions: [[0, 1, 2, 3, 0, 1, 2, 3, 4]], segments: [[5, 5, 5, 5, 2, 2, 2, 2, 2]] }),
      run(0, 4),
      run(4, 9),
    ];
    const read = async ({ value, gradients }: (typeof runs)[number]) => {
      const tensors = [value.y, gradients[0]!, gradients[1]!];
      const values = await Promise.all(tensors.map((item) => item.read()));
      for (const item of [...tensors, value.loss]) item.dispose();
      return values.map((data) => [...data]);
    };
    const [packed, first, second] = [await read(runs[0]!), await read(runs[1]!), await read(runs[2]!)];
    for (const k of [0, 1]) expect(relativeError(packed[k]!, [...first[k]!, ...second[k]!])).toBeLessThanOrEqual(SAME);
    const total = first[2]!.map((value, i) => value + second[2]![i]!);
    expect(relativeError(packed[2]!, total)).toBeLessThanOrEqual(SAME);
  });

  it('computes in float16 where the adapter does, and says so elsewhere', async () => {
    const config = VARIANTS['norms']!;
    using made = smallLayer(device, config);
    const weights = new Map([...made.weights].map(([name, weight]) => [name, cast(weight, 'float16')]));
    const x = hidden(1, 5, config.hiddenSize);
    using full = tensor(device, x, [1, 5, config.hiddenSize]);
    using half = cast(full, 'float16');
    using expected = made.layer.forward(full, {});
    for (const absorb of ['never', 'always'] as const) {
      using layer = new MlaLayer(config, weights, { absorb });
      using state = layer.newState(1, 8);
      using length = tensor(device, Int32Array.of(0));
      using keyLength = tensor(device, Int32Array.of(5));
      const run = () => layer.forward(half, { cache: { length, keyLength, fresh: true } }, state);
      if (device.info.float16) {
        using y = run();
        expect(y.dtype).toBe('float32');
        expect(relativeError(await y.read(), await expected.read())).toBeLessThanOrEqual(HALF);
      } else expect(run).toThrow(/float16, which this adapter can only store/);
    }
    for (const weight of weights.values()) weight.dispose();
  });

  it('names its parameters as the checkpoints do, and leaves them to their owner', () => {
    const made = smallLayer(device, { ...SMALL, useLoraLayerNorm: true });
    expect([...made.layer.namedParameters().keys()]).toEqual([
      'q_a_proj.weight',
      'q_a_layernorm.weight',
      'q_b_proj.weight',
      'kv_a_proj_with_mqa.weight',
      'kv_a_layernorm.weight',
      'kv_b_proj.weight',
      'out_proj.weight',
    ]);
    made.layer.dispose();
    for (const weight of made.weights.values()) expect(weight.disposed).toBe(false);
    using x = tensor(device, hidden(1, 1, SMALL.hiddenSize), [1, 1, SMALL.hiddenSize]);
    expect(() => made.layer.forward(x, {})).toThrow(/this layer was disposed of/);
    made[Symbol.dispose]();
  });

  it('shares rotary tables among layers of one config, until the last is gone', () => {
    using made = smallLayer(device);
    const { liveBuffers } = device.statistics();
    const twin = scope(() => new MlaLayer(SMALL, made.weights));
    expect(device.statistics().liveBuffers).toBe(liveBuffers);
    const other = scope(() => new MlaLayer({ ...SMALL, rope: { theta: 500, scaling: null } }, made.weights));
    const otherTwin = new MlaLayer({ ...SMALL, rope: { theta: 500, scaling: null } }, made.weights);
    expect(device.statistics().liveBuffers).toBe(liveBuffers + 2);
    other.dispose();
    other.dispose();
    using x = tensor(device, hidden(1, 2, SMALL.hiddenSize), [1, 2, SMALL.hiddenSize]);
    otherTwin.forward(x, {}).dispose();
    otherTwin.dispose();
    twin.dispose();
    x.dispose();
    expect(device.statistics().liveBuffers).toBe(liveBuffers);
  });

  it('refuses wrong weights all at once, wrong options and wrong inputs', () => {
    using made = smallLayer(device);
    const { layer } = made;
    scope(() => {
      const wrong = new Map(made.weights);
      wrong.delete('q_a_proj.weight');
      wrong.set('extra', wrong.get('out_proj.weight')!);
      wrong.set('kv_b_proj.weight', tensor(device, [1, 2], [1, 2]));
      const message =
        /missing q_a_proj.weight \[12, 20\]\n.*kv_b_proj.weight has shape \[1, 2\], expected \[32, 8\]\n.*unexpected extra/;
      expect(() => new MlaLayer(SMALL, wrong)).toThrow(message);
      expect(() => new MlaLayer(SMALL, made.weights, { absorb: 'maybe' as never })).toThrow(/absorb must be 'auto'/);
      const of = (...shape: number[]) => tensor(device, hidden(shape[0]!, shape[1]!, shape[2]!), shape);
      expect(() => layer.forward(of(1, 2, 19), {})).toThrow(/MlaLayer: x must be \[B, T, 20\], got \[1, 2, 19\]/);
      expect(() => layer.forward(of(1, 65, 20), {})).toThrow(/65 tokens pass the layer's maxPositions of 64/);
      const positions = integers(device, [[0, 1, 2]]);
      expect(() => layer.forward(of(1, 2, 20), { positions })).toThrow(/MlaLayer: positions must be \[1, 2\]/);
    });
  });
});

describe('createMlaWeights', () => {
  it('draws what the config names: projections within 1/√inputs, norms 1, from the given source alone', async () => {
    const config = { ...SMALL, useLoraLayerNorm: true };
    const draw = () => createMlaWeights(device, config, uniformSource(3));
    const [weights, again] = [draw(), draw()];
    expect(new Map([...weights].map(([name, { shape }]) => [name, shape]))).toEqual(mlaWeightSpecs(config));
    for (const [name, weight] of weights) {
      const values = [...(await weight.read())];
      const bound = weight.shape.length === 1 ? 1 : 1 / Math.sqrt(weight.shape[1]!);
      if (weight.shape.length === 1) expect(values.every((value) => value === 1)).toBe(true);
      else {
        const largest = Math.max(...values.map(Math.abs));
        expect(largest).toBeLessThanOrEqual(bound);
        expect(largest).toBeGreaterThan(0.9 * bound);
        expect(Math.min(...values)).toBeLessThan(-0.8 * bound);
      }
      expect([...(await again.get(name)!.read())]).toEqual(values);
    }
    for (const weight of [...weights.values(), ...again.values()]) weight.dispose();
  });
});
