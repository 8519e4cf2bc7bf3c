import { type Device, multiply, scope, square, sum, type Tensor, tensor, valueAndGradients } from '@zebra/tensor';
import { normalValues, relativeError, testDevice, uniformSource } from '@zebra/tensor/testing';
import { describe, expect, it } from 'vitest';
import { createMamba2Weights, type Mamba2Config, Mamba2Layer, mamba2Sizes, mamba2WeightSpecs } from './index.js';

// Chunk, recurrence and step sum in different orders.
const SAME = 1e-5;
const config: Mamba2Config = { hiddenSize: 24, headCount: 4, keyValueHeadCount: 2, headDim: 8 };

async function withLayer(
  device: Device,
  use: (layer: Mamba2Layer, random: () => number) => Promise<void>,
): Promise<void> {
  const random = uniformSource(11);
  const before = device.statistics().liveBuffers;
  const weights = createMamba2Weights(device, config, random);
  await use(new Mamba2Layer(config, weights), random);
  for (const weight of weights.values()) weight.dispose();
  expect(device.statistics().liveBuffers).toBe(before);
}

/** Rows of [T, D] values, cut or joined on the host. */
const join = (device: Device, rows: readonly (readonly number[])[]) =>
  tensor(device, rows.flat(), [rows.length, rows[0]!.length / config.hiddenSize, config.hiddenSize]);
const values = (length: number, random: () => number) => [...normalValues([length * config.hiddenSize], random).data];

async function read(t: Tensor): Promise<number[]> {
  const data = [...(await t.read())];
  t.dispose();
  return data;
}

describe.each(['native', 'hardware'] as const)('Mamba2Layer (%s kernels)', async (variant) => {
  const device = await testDevice(variant);

  it('gives packed documents what they get alone', async () => {
    await withLayer(device, async (layer, random) => {
      const documents = [1, 3, 63, 90].map((length) => values(length, random));
      const segments = documents.flatMap((row, k) => new Array<number>(row.length / config.hiddenSize).fill(k));
      using packed = join(device, [[...documents.flat(), ...values(3, random)]]);
      using numbers = tensor(device, Int32Array.from([...segments, -1, -1, -1]), [1, segments.length + 3]);
      const y = await read(layer.forward(packed, { segments: numbers }));
      let at = 0;
      for (const row of documents) {
        using alone = join(device, [row]);
        expect(relativeError(y.slice(at, at + row.length), await read(layer.forward(alone)))).toBeLessThan(SAME);
        at += row.length;
      }
      expect(y.slice(at).every((value) => value === 0)).toBe(true);
    });
  });

  it('gives the same in one pass, in pieces and step by step', async () => {
    await withLayer(device, async (layer, random) => {
      const row = values(80, random);
      using whole = join(device, [row]);
      const wanted = await read(layer.forward(whole));
      for (const pieces of [[80], [65, 15], [2, 1, 77], [1, 1, 1, 77], [70, ...new Array<number>(10).fill(1)]]) {
        using state = layer.newState(1);
        const got: number[] = [];
        let at = 0;
        for (const length of pieces) {
          using x = join(device, [row.slice(at * config.hiddenSize, (at + length) * config.hiddenSize)]);
          got.push(...(await read(layer.forward(x, {}, state))));
          at += length;
        }
        expect(relativeError(got, wanted), pieces.join()).toBeLessThan(SAME);
      }
    });
  });

  it('continues rows of different lengths behind left padding', async () => {
    await withLayer(device, async (layer, random) => {
      const turns = [
        [5, 70],
        [9, 2],
      ].map((lengths) => lengths.map((length) => values(length, random)));
      using state = layer.newState(2);
      const got: number[][] = [];
      for (const turn of turns) {
        const longest = Math.max(...turn.map((row) => row.length));
        const pad = turn.map((row) => longest - row.length);
        // Padding holds numbers that would be seen if it were.
        using x = join(
          device,
          turn.map((row, b) => [...new Array<number>(pad[b]!).fill(7), ...row]),
        );
        const tokens = longest / config.hiddenSize;
        const marks = pad.flatMap((size) =>
          Array.from({ length: tokens }, (_, t) => (t < size / config.hiddenSize ? -1 : 0)),
        );
        using segments = tensor(device, Int32Array.from(marks), [2, tokens]);
        const y = await read(layer.forward(x, { segments }, state));
        for (const [b, row] of turn.entries()) got.push(y.slice((b + 1) * longest - row.length, (b + 1) * longest));
      }
      for (const b of [0, 1]) {
        using alone = join(device, [[...turns[0]![b]!, ...turns[1]![b]!]]);
        const wanted = await read(layer.forward(alone));
        expect(relativeError([...got[b]!, ...got[2 + b]!], wanted)).toBeLessThan(SAME);
      }
    });
  });

  it('gives the same gradients for packed documents as for each alone', async () => {
    await withLayer(device, async (layer, random) => {
      const documents = [20, 60].map((length) => values(length, random));
      const up = documents.map((row) => values(row.length / config.hiddenSize, random));
      const parameters = [...layer.namedParameters().values()];
      const gradientsOf = async (rows: number[], ups: number[], marks?: number[]) => {
        using x = join(device, [rows]);
        using weight = join(device, [ups]);
        using segments = tensor(device, Int32Array.from(marks ?? [0]), [1, marks?.length ?? 1]);
        const context = marks ? { segments } : {};
        const { value, gradients } = valueAndGradients(
          () => sum(multiply(layer.forward(x, context), weight)),
          parameters,
        );
        value.dispose();
        return Promise.all(gradients.map((gradient) => read(gradient!)));
      };
      const packed = await gradientsOf(documents.flat(), up.flat(), [
        ...new Array(20).fill(3),
        ...new Array(60).fill(1),
      ]);
      const alone = [await gradientsOf(documents[0]!, up[0]!), await gradientsOf(documents[1]!, up[1]!)];
      packed.forEach((gradient, k) => {
        const summed = alone[0]![k]!.map((value, i) => value + alone[1]![k]![i]!);
        expect(relativeError(gradient, summed)).toBeLessThan(2e-5);
      });
    });
  });
});

describe('Mamba2Layer', async () => {
  const device = await testDevice();

  it('leaks nothing in a step, with or without a gradient', async () => {
    await withLayer(device, async (layer, random) => {
      using x = join(device, [values(6, random)]);
      using token = join(device, [values(1, random)]);
      using state = layer.newState(1);
      const before = device.statistics().liveBuffers;
      for (let k = 0; k < 3; k++) {
        layer.forward(token, {}, state).dispose();
        const { value, gradients } = valueAndGradients(() => sum(layer.forward(x)), [x]);
        for (const made of [value, ...gradients]) made?.dispose();
        expect(device.statistics().liveBuffers).toBe(before);
      }
    });
  });

  it('computes in float16 where the adapter can, and says so where it cannot', async () => {
    await withLayer(device, async (layer, random) => {
      const row = values(70, random);
      using exact = join(device, [row]);
      using x = tensor(device, row, exact.shape, { dtype: 'float16' });
      const halves = await Promise.all(
        [...layer.namedParameters()].map(
          async ([name, weight]) =>
            [name, tensor(device, await weight.read(), weight.shape, { dtype: 'float16' })] as const,
        ),
      );
      const half = new Mamba2Layer(config, new Map(halves));
      const weights = halves.map(([, weight]) => weight);
      const step = () => valueAndGradients(() => ({ loss: sum(square(half.forward(x))) }), [x, ...weights]);
      if (device.info.float16) {
        const { value, gradients } = step();
        const wanted = valueAndGradients(
          () => ({ loss: sum(square(layer.forward(exact))) }),
          [exact, ...layer.namedParameters().values()],
        );
        for (const [k, gradient] of gradients.entries()) {
          expect(gradient!.dtype).toBe('float16');
          // float16 has 11 bits, and every product of the two projections starts from rounded operands.
          expect(relativeError(await gradient!.read(), await read(wanted.gradients[k]!))).toBeLessThan(1e-2);
        }
        for (const made of [value.loss, wanted.value.loss, ...gradients]) made?.dispose();
      } else expect(step).toThrow(/float16/);
      for (const weight of weights) weight.dispose();
    });
  });

  it('goes back to the start on reset, and tells its size', async () => {
    await withLayer(device, async (layer, random) => {
      using x = join(device, [values(3, random), values(3, random)]);
      using state = layer.newState(2);
      const { convSize, headCount, headDim } = mamba2Sizes(config);
      expect(state.byteLength).toBe(2 * 4 * (convSize * 4 + headCount * headDim * headDim));
      expect(state.constantBytes).toBe(state.byteLength / 2);
      expect(state.bytesPerToken).toBe(0);
      const first = await read(layer.forward(x, {}, state));
      expect(await read(layer.forward(x, {}, state))).not.toEqual(first);
      state.reset();
      expect(await read(layer.forward(x, {}, state))).toEqual(first);
    });
  });

  it('has no gradient through a state', async () => {
    await withLayer(device, async (layer, random) => {
      using x = join(device, [values(3, random)]);
      using state = layer.newState(1);
      expect(() => valueAndGradients(() => sum(layer.forward(x, {}, state)), [x])).toThrow(/no gradient/);
    });
  });

  it('reports every weight that does not fit at once', () => {
    scope(() => {
      const weights = new Map<string, Tensor>(createMamba2Weights(device, config, uniformSource(1)));
      weights.delete('D');
      weights.set('norm.bias', tensor(device, [1]));
      weights.set('A_log', tensor(device, [1, 2, 3]));
      expect(() => new Mamba2Layer(config, weights)).toThrow(
        /A_log has shape \[3\], expected \[4\]\s+missing D \[4\]\s+unexpected norm\.bias/,
      );
    });
  });

  it('refuses configs and inputs that do not fit', async () => {
    expect(() => mamba2Sizes({ ...config, headCount: 3 })).toThrow(
      /headCount \(3\) must be a multiple of keyValueHeadCount \(2\)/,
    );
    expect(() => mamba2Sizes({ ...config, headDim: 0, hiddenSize: 1.5 })).toThrow(
      /hiddenSize must be a positive integer, got 1\.5; headDim/,
    );
    expect(() => mamba2Sizes({ ...config, convKernel: 3 })).toThrow(/convKernel must be 4/);
    await withLayer(device, async (layer, random) => {
      using x = join(device, [values(2, random)]);
      using state = layer.newState(3);
      using wrong = tensor(device, [1, 2, 3]);
      using segments = tensor(device, [0, 0], [1, 2]);
      expect(() => layer.forward(wrong)).toThrow(/x must be \[B, T, 24\], got \[3\]/);
      expect(() => layer.forward(x, {}, state)).toThrow(/the state is for 3 rows, x has 1/);
      expect(() => layer.forward(x, { segments })).toThrow(/segments must be int32, got float32/);
    });
  });

  it('starts from the published ranges', async () => {
    const weights = createMamba2Weights(device, config, uniformSource(2));
    expect([...weights.keys()]).toEqual([...mamba2WeightSpecs(config).keys()]);
    const all = new Map(
      await Promise.all([...weights].map(async ([name, weight]) => [name, await read(weight)] as const)),
    );
    const within = (name: Parameters<typeof all.get>[0], low: number, high: number, map = (v: number) => v) => {
      for (const value of all.get(name)!) {
        expect(map(value), name).toBeGreaterThanOrEqual(low - 1e-6);
        expect(map(value), name).toBeLessThanOrEqual(high + 1e-6);
      }
    };
    within('in_proj.weight', -1 / Math.sqrt(24), 1 / Math.sqrt(24));
    within('out_proj.weight', -1 / Math.sqrt(32), 1 / Math.sqrt(32));
    within('conv1d.weight', -0.5, 0.5);
    within('conv1d.bias', -0.5, 0.5);
    within('A_log', 1, 16.001, Math.exp);
    within('dt_bias', 1e-3, 0.1, (v) => Math.log1p(Math.exp(v)));
    within('D', 1, 1);
    within('norm.weight', 1, 1);
  });
});
