import { Mamba2Layer } from '@zebra/mamba2';
import { MlaLayer } from '@zebra/mla';
import { Random, type Tensor, tensor } from '@zebra/tensor';
import { plainFrequencies } from '@zebra/tensor/nn';
import { normalValues, testDevice, uniformSource } from '@zebra/tensor/testing';
import { describe, expect, it } from 'vitest';
import type { HostTensor } from './host-tensor.js';
import {
  attentionSingularValues,
  InitError,
  initialiseMamba2,
  initialiseMla,
  mamba2WeightsFromAttention,
  mlaWeightsFromAttention,
  singularValues,
} from './index.js';
import { product, relativeError, rows } from './matrix-comparison.testing.js';

const SIZES = { hiddenSize: 32, headCount: 4, keyValueHeadCount: 2 };
const HEAD = 8;

describe('initialisation on a device', async () => {
  const device = await testDevice();
  const random = uniformSource(3);
  const host = Object.fromEntries(
    Object.entries({ q: [32, 32], k: [16, 32], v: [16, 32], o: [32, 32] }).map(([letter, shape]) => [
      `${letter}_proj.weight`,
      { shape, data: Float32Array.from(normalValues(shape, random).data) },
    ]),
  );
  const upload = () =>
    new Map(Object.entries(host).map(([name, { data, shape }]) => [name, tensor(device, data, shape)]));
  const mla = {
    ...SIZES,
    qLoraRank: 16,
    kvLoraRank: 8,
    qkNopeHeadDim: 4,
    qkRopeHeadDim: 4,
    vHeadDim: HEAD,
    useLoraLayerNorm: false,
    useFullKvHead: false,
    rope: { theta: 10000, scaling: null },
  };

  it('gives the host result, in a form that the layers take, and leaks nothing', async () => {
    const before = device.statistics().liveBuffers;
    const attention = upload();
    const made = await initialiseMla(attention, mla);
    const { rope: _, ...sizes } = mla;
    const expected = mlaWeightsFromAttention(host, { ...sizes, headDim: HEAD });
    for (const [name, weight] of made.weights)
      expect([...(await weight.read())]).toEqual([...expected.weights.get(name)!.data]);
    expect(made.details.ranks).toEqual({ query: 16, keyValue: 8 });
    new MlaLayer(mla, made.weights).dispose();
    const mamba2 = { ...SIZES, headDim: HEAD };
    const generator = new Random(1);
    const other = await initialiseMamba2(attention, mamba2, { random: () => generator.uniform() });
    new Mamba2Layer(mamba2, other.weights);
    for (const map of [attention, made.weights, other.weights]) for (const weight of map.values()) weight.dispose();
    expect(device.statistics().liveBuffers).toBe(before);
  });

  it('matches frequencies when it is told the attention layer’s', async () => {
    const attention = upload();
    const last = await initialiseMla(attention, mla);
    const aware = await initialiseMla(attention, mla, {
      teacherFrequencies: plainFrequencies(10000, HEAD),
      sharedRopeKey: 'aligned',
    });
    const name = 'kv_a_proj_with_mqa.weight';
    expect([...(await aware.weights.get(name)!.read())]).not.toEqual([...(await last.weights.get(name)!.read())]);
    for (const map of [attention, last.weights, aware.weights]) for (const weight of map.values()) weight.dispose();
  });

  it('refuses an empty layer and missing weights', async () => {
    await expect(initialiseMla(new Map(), mla)).rejects.toThrow(/q_proj.weight/);
  });
});

// Sizes of a Qwen3: n_h·d_h is not d; more query rows than columns.
const WIDE = { hiddenSize: 40, headCount: 8, keyValueHeadCount: 2 };

describe.each(['native', 'hardware'] as const)('a layer worked out on the device, %s kernels', async (variant) => {
  const device = await testDevice(variant);
  const random = uniformSource(7);
  const shapes = {
    'q_proj.weight': [64, 40],
    'k_proj.weight': [16, 40],
    'v_proj.weight': [16, 40],
    'o_proj.weight': [40, 64],
  };
  const host: Record<string, HostTensor> = Object.fromEntries(
    Object.entries(shapes).map(([name, shape]) => [
      name,
      { shape, data: Float32Array.from(normalValues(shape, random).data) },
    ]),
  );
  const extras: Record<string, HostTensor> = {
    'q_norm.weight': { shape: [HEAD], data: Float32Array.from({ length: HEAD }, (_, i) => 0.5 + i / 4) },
    'k_norm.weight': { shape: [HEAD], data: Float32Array.from({ length: HEAD }, (_, i) => 2 - i / 8) },
    'input_layernorm.weight': { shape: [40], data: Float32Array.from({ length: 40 }, (_, i) => 1 + (i % 5)) },
    'q_proj.bias': { shape: [64], data: Float32Array.from({ length: 64 }, (_, i) => Math.sin(i)) },
    'k_proj.bias': { shape: [16], data: Float32Array.from({ length: 16 }, (_, i) => Math.cos(i)) },
    'v_proj.bias': { shape: [16], data: Float32Array.from({ length: 16 }, (_, i) => Math.cos(2 * i)) },
  };
  const upload = (weights: Record<string, HostTensor>, dtype: 'float32' | 'bfloat16' = 'float32') =>
    new Map(Object.entries(weights).map(([name, { data, shape }]) => [name, tensor(device, data, shape, { dtype })]));
  const base = {
    ...WIDE,
    qLoraRank: 24,
    kvLoraRank: 12,
    qkNopeHeadDim: 4,
    qkRopeHeadDim: 4,
    vHeadDim: HEAD,
    useLoraLayerNorm: false,
    useFullKvHead: false,
    rope: { theta: 10000, scaling: null },
  };
  const read = async (weights: ReadonlyMap<string, Tensor>) => {
    const result = new Map<string, HostTensor>();
    for (const [name, weight] of weights)
      result.set(name, { shape: weight.shape, data: (await weight.read()) as Float32Array });
    return result;
  };
  const dispose = (...maps: ReadonlyMap<string, Tensor>[]) => {
    for (const map of maps) for (const weight of map.values()) weight.dispose();
  };

  it.each([
    ['the reference form', {}, {}],
    ['latent norms, all key heads', { useLoraLayerNorm: true, useFullKvHead: true }, {}],
    ['no down-projection of the queries', { qLoraRank: null }, {}],
    ['matched frequencies', {}, { teacherFrequencies: plainFrequencies(10000, HEAD) }],
    ['aligned key heads', {}, { teacherFrequencies: plainFrequencies(10000, HEAD), sharedRopeKey: 'aligned' as const }],
    ['padded rows', { qkNopeHeadDim: 8 }, { teacherFrequencies: plainFrequencies(10000, HEAD) }],
    ['full rank', { qLoraRank: 40, kvLoraRank: 32 }, {}],
  ])('agrees with the host: %s', async (_, change, options) => {
    const before = device.statistics().liveBuffers;
    const attention = upload({ ...host, ...extras });
    const config = { ...base, ...change };
    const made = await initialiseMla(attention, config, { ...options, where: 'device' });
    const expected = await initialiseMla(attention, config, { ...options, where: 'host' });
    const [ours, theirs] = [await read(made.weights), await read(expected.weights)];
    expect([...ours.keys()]).toEqual([...theirs.keys()]);
    for (const [name, { shape }] of theirs) expect(ours.get(name)!.shape).toEqual(shape);
    // A subspace in float32 is off by about 1e-7 · s₁/(s_r − s_(r+1)): here up to a hundred of that. Copies are copies.
    const close = (a: HostTensor, b: HostTensor, limit: number) => expect(relativeError(a, b)).toBeLessThan(limit);
    if (config.qLoraRank === null) close(ours.get('q_proj.weight')!, theirs.get('q_proj.weight')!, 1e-6);
    else
      close(
        product(ours, 'q_b_proj.weight', 'q_a_proj.weight'),
        product(theirs, 'q_b_proj.weight', 'q_a_proj.weight'),
        2e-5,
      );
    const [up, down] = ['kv_b_proj.weight', 'kv_a_proj_with_mqa.weight'];
    close(product(ours, up, down), product(theirs, up, down), 2e-5);
    const ropeRows = (map: Map<string, HostTensor>) => rows(map.get(down)!, config.kvLoraRank, config.kvLoraRank + 4);
    close(ropeRows(ours), ropeRows(theirs), 1e-6);
    expect(ours.get('out_proj.weight')!.data).toEqual(theirs.get('out_proj.weight')!.data);
    expect(made.details.ranks).toEqual(expected.details.ranks);
    expect(made.details.warnings).toEqual(expected.details.warnings);
    expect(made.details.energies.keyValue).toBeCloseTo(expected.details.energies.keyValue, 6);
    expect(made.details.errors.keyValue.reached).toBeCloseTo(expected.details.errors.keyValue.smallest, 4);
    new MlaLayer(config, made.weights).dispose();
    dispose(attention, made.weights, expected.weights);
    expect(device.statistics().liveBuffers).toBe(before);
  });

  it('reads bfloat16 weights, takes known spectra, and leaves the attention layer its own output weights', async () => {
    const attention = upload(host, 'bfloat16');
    const spectra = await attentionSingularValues(attention, { ...WIDE, headDim: HEAD }, { where: 'device' });
    const stored = Object.fromEntries(await read(attention));
    const stack = { shape: [32, 40], data: new Float32Array(32 * 40) };
    stack.data.set(stored['k_proj.weight']!.data);
    stack.data.set(stored['v_proj.weight']!.data, 16 * 40);
    for (const [found, matrix] of [
      [spectra.query, stored['q_proj.weight']!],
      [spectra.keyValue, stack],
    ] as const) {
      const exact = singularValues(matrix);
      // Float32 Householder steps: a small multiple of 6e-8 of the largest.
      const worst = Math.max(...found.map((value, i) => Math.abs(value - exact[i]!)));
      expect(worst).toBeLessThan(1e-6 * exact[0]!);
    }
    const made = await initialiseMla(attention, base, { where: 'device', spectra });
    expect(made.details.singularValues.query).toBe(spectra.query);
    for (const weight of made.weights.values()) expect(weight.dtype).toBe('float32');
    const output = made.weights.get('out_proj.weight')!;
    expect(output.storage).not.toBe(attention.get('o_proj.weight')!.storage);
    expect([...(await output.read())]).toEqual([...stored['o_proj.weight']!.data]);
    dispose(attention, made.weights);
  });

  it('gives the same Mamba2 weights, biases folded or dropped', async () => {
    for (const biases of ['drop', 'fold'] as const) {
      for (const repeatKvBeforeConv of [false, true]) {
        const attention = upload({ ...host, ...extras });
        const config = { ...WIDE, headDim: HEAD, repeatKvBeforeConv };
        const [ours, theirs] = [new Random(3), new Random(3)];
        const made = await initialiseMamba2(attention, config, { random: () => ours.uniform(), biases });
        const expected = mamba2WeightsFromAttention(
          { ...host, ...extras },
          { ...config, biases, random: () => theirs.uniform() },
        );
        for (const [name, weight] of made.weights) {
          const data = (await weight.read()) as Float32Array;
          // The norms are folded in float32 here and in float64 there; everything else is the same to the bit.
          if (name !== 'in_proj.weight') expect([...data], name).toEqual([...expected.weights.get(name)!.data]);
          expect(relativeError({ shape: weight.shape, data }, expected.weights.get(name)!)).toBeLessThan(1e-7);
        }
        expect(made.details.warnings).toEqual(expected.warnings);
        expect(
          made.details.warnings.filter(({ code }) => code === `bias-${biases === 'drop' ? 'dropped' : 'folded'}`),
        ).toHaveLength(3);
        new Mamba2Layer(config, made.weights);
        dispose(attention, made.weights);
      }
    }
  });

  it('gives Mamba2 weights to the bit where nothing is folded', async () => {
    const attention = upload(host);
    const config = { ...WIDE, headDim: HEAD };
    const [ours, theirs] = [new Random(3), new Random(3)];
    const made = await initialiseMamba2(attention, config, { random: () => ours.uniform() });
    const expected = mamba2WeightsFromAttention(host, { ...config, random: () => theirs.uniform() });
    for (const [name, weight] of made.weights)
      expect([...(await weight.read())], name).toEqual([...expected.weights.get(name)!.data]);
    dispose(attention, made.weights);
  });

  it('refuses what is not finite by name, missing and misshaped tensors, and frees what it made', async () => {
    const before = device.statistics().liveBuffers;
    const bad = { shape: [16, 40], data: new Float32Array(640) };
    bad.data[17] = Number.NaN;
    const attention = upload({ ...host, 'v_proj.weight': bad });
    const convert = initialiseMla(attention, base, { where: 'device' });
    await expect(convert).rejects.toThrow(InitError);
    await expect(convert).rejects.toThrow(/v_proj\.weight: expected finite values, got NaN at flat index 17/);
    const good = upload(host);
    await expect(initialiseMla(good, { ...base, kvLoraRank: 33 }, { where: 'device' })).rejects.toThrow(/kvLoraRank/);
    await expect(initialiseMla(good, { ...base, hiddenSize: 41 }, { where: 'device' })).rejects.toThrow(
      /q_proj\.weight: expected shape \[64, 41\], got shape \[64, 40\]/,
    );
    await expect(initialiseMla(new Map(), base, { where: 'device' })).rejects.toThrow(/q_proj\.weight/);
    dispose(attention, good);
    expect(device.statistics().liveBuffers).toBe(before);
  });
});
