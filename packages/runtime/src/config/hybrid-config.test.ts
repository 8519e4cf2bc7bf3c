import { readFileSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import { describe, expect, it } from 'vitest';
import { createHybridConfig, parseHybridConfig, parseTransformerConfig, writeHybridConfig } from './index.js';
import { pythonFloat, pythonJson } from './python-json.js';

const read = (name: string) =>
  readFileSync(fileURLToPath(new URL(`../../test/goldens/${name}`, import.meta.url)), 'utf8');
const transformer = parseTransformerConfig(read('hybrid-tiny/config.json'));
const released = JSON.parse(read('hybrid-tiny/hybrid_config.json')) as Record<string, unknown>;
const parse = (changes: Record<string, unknown>) => parseHybridConfig({ ...released, ...changes }, transformer);

describe('the released layout', () => {
  it.each([
    ['hybrid-tiny', 'hybrid-tiny'],
    ['hybrid-tiny-repeat-before-conv', 'hybrid-tiny'],
    ['mla-layer/a', 'hybrid-tiny'],
    ['mla-layer/b-latent-norm', 'hybrid-tiny'],
    ['mla-layer/c-full-kv-heads', 'hybrid-tiny'],
    ['mla-layer/d-no-rope-scaling', 'hybrid-tiny'],
    ['mla-init/a', 'llama-tiny'],
    ['mla-init/b-full-kv-heads', 'llama-tiny'],
  ])('%s is read and written back to the same text', (name, base) => {
    const text = read(`${name}/hybrid_config.json`);
    const config = parseHybridConfig(text, parseTransformerConfig(read(`${base}/config.json`)));
    expect(writeHybridConfig(config)).toBe(text);
    expect(writeHybridConfig(config, { indent: 2 })).toBe(text.replace(/^ +/gm, (spaces) => spaces + spaces));
  });

  it('has the fields of the file', () => {
    expect(parse({})).toEqual({
      layers: ['mla', 'mamba2', 'mla', 'mamba2'],
      hiddenSize: 128,
      intermediateSize: 256,
      headCount: 4,
      keyValueHeadCount: 2,
      normEpsilon: 1e-5,
      maxPositionEmbeddings: 131072,
      mla: {
        qLoraRank: 64,
        kvLoraRank: 32,
        qkNopeHeadDim: 16,
        qkRopeHeadDim: 16,
        vHeadDim: 32,
        useLoraLayerNorm: false,
        useFullKvHead: false,
        rope: { theta: 500000, scaling: { factor: 32, originalMaxPositionEmbeddings: 8192 } },
        qkvRankDivisor: 8,
      },
      mamba2: {
        innerSize: 128,
        xbSize: 64,
        stateSize: 32,
        groups: 4,
        repeatKvBeforeConv: false,
        convKernel: 4,
        expand: 1,
      },
    });
  });

  it('is what createHybridConfig makes', () => {
    const made = createHybridConfig(transformer, {
      layers: ['mla', 'mamba2', 'mla', 'mamba2'],
      kvLoraRank: 32,
      qLoraRank: 64,
    });
    expect(writeHybridConfig(made)).toBe(read('hybrid-tiny/hybrid_config.json'));
    expect(() => createHybridConfig(transformer, { layers: ['mla'], kvLoraRank: 32 })).toThrow(/expected 4 layers/);
    expect(() => createHybridConfig(transformer, { layers: made.layers, kvLoraRank: 0 })).toThrow(/kvLoraRank/);
  });
});

describe('legacy spellings', () => {
  const scaling = (rope_type: string | undefined) => ({
    factor: 8,
    original_max_position_embeddings: 4096,
    ...(rope_type && { rope_type, low_freq_factor: 1, high_freq_factor: 4 }),
  });
  it.each([
    [{ rope_scaling: scaling('llama3'), rope_type: 'yarn' }],
    [{ rope_scaling: scaling('llama3'), rope_type: undefined }],
    [{ rope_scaling: scaling('yarn'), rope_type: undefined }],
    [{ rope_scaling: scaling(undefined), rope_type: 'yarn' }],
    [{ rope_scaling: { ...scaling(undefined), type: 'yarn' }, rope_type: null }],
  ])('rope scaling means YaRN: %j', (changes) => {
    expect(parse(changes).mla.rope.scaling).toEqual({ factor: 8, originalMaxPositionEmbeddings: 4096 });
  });

  it('keys that say how ranks were chosen, and ranks a layer', () => {
    const config = parse({
      use_fixed_rank_for_first_and_last_block: true,
      q_energy_ratio: 0.95,
      kv_energy_ratio: 0.95,
      layer_rank_list: { 0: { q_rank: 64, kv_rank: 32 }, 2: { q_rank: 40, kv_rank: 24 }, 3: { q_rank: 8, kv_rank: 8 } },
    });
    expect(config.mla.layerRanks).toEqual(new Map([[2, { qLoraRank: 40, kvLoraRank: 24 }]]));
    expect(parseHybridConfig(writeHybridConfig(config), transformer)).toEqual(config);
    expect(writeHybridConfig(parse({ layer_rank_list: { 0: { q_rank: 64, kv_rank: 32 } } }))).toBe(
      read('hybrid-tiny/hybrid_config.json'),
    );
  });

  it('an ssm_cfg without repeat_kv_before_conv', () => {
    const config = parse({ ssm_cfg: { expand: 1, ngroups: 4, d_state: 32 } });
    expect(config.mamba2.repeatKvBeforeConv).toBe(false);
  });

  it('MambaInLlama: attention layers that stay', () => {
    const config = parseHybridConfig(
      {
        d_model: 128,
        ssm_cfg: { expand: 1, ngroups: 4, d_state: 32 },
        attn_layers: [1, 3],
        rms_norm_eps: 1e-5,
        d_inner: 128,
        d_xb: 64,
        intermediate_size: 256,
        hidden_act: 'silu',
        n_layer: 4,
      },
      transformer,
    );
    expect(config.layers).toEqual(['mamba2', 'attention', 'mamba2', 'attention']);
    expect(parseHybridConfig(writeHybridConfig(config), transformer)).toEqual(config);
    expect(parse({ attn_layers: [3] }).layers).toEqual(['mla', 'mamba2', 'mla', 'attention']);
  });
});

describe('what is refused', () => {
  it.each([
    [{ hidden_size: 64 }, /hidden_size: expected 128, as config\.json says, got 64/],
    [{ n_layer: 5 }, /n_layer: expected 4/],
    [{ num_key_value_heads: 4 }, /num_key_value_heads: expected 2/],
    [{ d_xb: 128 }, /d_xb: expected 64/],
    [{ mla_layers: [0, 4] }, /mla_layers: expected layers below n_layer \(4\), got \[0,4\]/],
    [{ mla_layers: [0, 0] }, /named once/],
    [{ attn_layers: [0] }, /attn_layers: expected layers that are named once/],
    [{ mla_layers: [-1] }, /mla_layers\.0: expected a non-negative integer, got -1/],
    [{ mla_layers: undefined }, /mla_layers: expected a list of layer numbers, got nothing/],
    [{ kv_lora_rank: undefined }, /kv_lora_rank: expected a positive integer, as there are MLA layers, got nothing/],
    [{ q_lora_rank: undefined }, /q_lora_rank/],
    [{ qk_rope_head_dim: 15 }, /qk_rope_head_dim: expected an even number/],
    [{ ssm_cfg: undefined }, /ssm_cfg: expected an object, as there are Mamba2 layers/],
    [{ ssm_cfg: { ngroups: 2, d_state: 32 } }, /ssm_cfg\.ngroups: expected 4/],
    [{ rope_type: 'default' }, /rope_type: expected "yarn" or nothing/],
    [{ rope_scaling: { rope_type: 'dynamic', factor: 2 } }, /rope_scaling\.rope_type: expected "yarn" or "llama3"/],
    [
      { rope_scaling: { rope_type: 'yarn', factor: 2 } },
      /original_max_position_embeddings: expected a positive integer/,
    ],
    [{ layer_rank_list: { 9: { q_rank: 8, kv_rank: 8 } } }, /layer_rank_list: expected layers below n_layer/],
    [{ layer_rank_list: { 0: { q_rank: 0 } } }, /layer_rank_list\.0: expected q_rank and kv_rank/],
    [{ attention_bias: true }, /attention_bias: expected false/],
  ])('%j', (changes, message) => {
    expect(() => parse(changes)).toThrow(message);
    expect(() => parse(changes)).toThrow(/^hybrid_config\.json:/);
  });
});

describe('Python spelling', () => {
  it.each([
    [500000, '500000.0'],
    [1e-5, '1e-05'],
    [32, '32.0'],
    [0, '0.0'],
    [-0, '-0.0'],
    [0.0001, '0.0001'],
    [1.5e-7, '1.5e-07'],
    [1e16, '1e+16'],
    [1e22, '1e+22'],
    [123456789012345680, '1.2345678901234568e+17'],
    [9007199254740992, '9007199254740992.0'],
    [1e-100, '1e-100'],
    [-2.5, '-2.5'],
  ])('%d is %s', (value, text) => {
    expect(pythonFloat(value)).toBe(text);
  });
  it('of empty containers', () => {
    expect(pythonJson({ a: [], b: {}, c: [1], d: undefined }, 2)).toBe(
      '{\n  "a": [],\n  "b": {},\n  "c": [\n    1\n  ]\n}',
    );
  });
});
