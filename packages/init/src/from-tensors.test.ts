import { Mamba2Layer } from '@zebra/mamba2';
import { MlaLayer } from '@zebra/mla';
import { Random, tensor } from '@zebra/tensor';
import { plainFrequencies } from '@zebra/tensor/nn';
import { normalValues, testDevice, uniformSource } from '@zebra/tensor/testing';
import { describe, expect, it } from 'vitest';
import { initialiseMamba2, initialiseMla, mlaWeightsFromAttention } from './index.js';

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
