import { describe, expect, it } from 'vitest';
import {
  createHybridConfig,
  parseHybridConfig,
  parseTransformerConfig,
  type TransformerConfig,
  writeHybridConfig,
} from '../config/index.js';
import { modelSpec } from '../models/model-spec.js';
import { cacheReport } from '../report/cache-report.js';
import { countParameters, type PresetName, presetHybridConfig, presets, proposeHybrid } from './index.js';

const NAMES = Object.keys(presets) as PresetName[];

// Counted by hand from the tables of shapes of the paper; see `handCount`.
const PARAMETERS: Readonly<Record<PresetName, [exact: number, published: string]>> = {
  'Zebra-Llama-1B-4MLA-12Mamba': [1_285_700_736, '1.28'],
  'Zebra-Llama-1B-6MLA-10Mamba': [1_276_425_152, ''],
  'Zebra-Llama-1B-8MLA-8Mamba': [1_267_149_568, '1.27'],
  'Zebra-Llama-3B-6MLA-22Mamba': [3_389_592_112, '3.39'],
  'Zebra-Llama-3B-8MLA-20Mamba': [3_359_502_752, ''],
  'Zebra-Llama-3B-14MLA-14Mamba': [3_269_234_672, '3.27'],
  'Zebra-Llama-8B-8MLA-24Mamba': [8_379_095_296, '8.38'],
  'Zebra-Llama-8B-16MLA-16Mamba': [8_185_746_944, '8.19'],
};

/** Parameters by arithmetic, apart from the code that knows the shapes. */
function handCount(name: PresetName): number {
  const { base, mlaLayers, qLoraRank, kvLoraRank, qkNopeHeadDim, qkRopeHeadDim, vHeadDim } = presets[name];
  const {
    hiddenSize: d,
    intermediateSize,
    layerCount,
    headCount,
    keyValueHeadCount,
    headDim,
    vocabularySize,
  } = base.config;
  const inner = headCount * headDim;
  const xb = keyValueHeadCount * headDim;
  const conv = inner + 2 * xb;
  const mla =
    qLoraRank * d +
    headCount * (qkNopeHeadDim + qkRopeHeadDim) * qLoraRank +
    (kvLoraRank + qkRopeHeadDim) * d +
    keyValueHeadCount * (qkNopeHeadDim + vHeadDim) * kvLoraRank +
    d * headCount * vHeadDim;
  const mamba2 = (2 * inner + 2 * xb + headCount) * d + 5 * conv + 3 * headCount + inner + d * inner;
  const every = 3 * d * intermediateSize + 2 * d;
  const embeddings = (base.config.tieWordEmbeddings ? 1 : 2) * vocabularySize * d;
  return embeddings + d + layerCount * every + mlaLayers.length * mla + (layerCount - mlaLayers.length) * mamba2;
}

describe.each(NAMES)('%s', (name) => {
  const preset = presets[name];
  const transformer: TransformerConfig = preset.base.config;
  const hybrid = presetHybridConfig(name);

  it('keeps the published share of the cache and has the published parameters', () => {
    expect(cacheReport({ transformer, hybrid }).sharePercent.toFixed(2)).toBe(preset.cacheSharePercent.toFixed(2));
    const [exact, published] = PARAMETERS[name];
    expect(countParameters(modelSpec(transformer, hybrid))).toBe(exact);
    expect(handCount(name)).toBe(exact);
    // 1.2857 is published as 1.28: cut off, where the others are rounded.
    const rounded = published === '1.28' ? Math.floor(exact / 1e7) / 100 : exact / 1e9;
    if (published !== '') expect(rounded.toFixed(2)).toBe(published);
  });

  it('is named after its layers, and on the hub after itself', () => {
    const [, size, mla, mamba2] = /^Zebra-Llama-(\dB)-(\d+)MLA-(\d+)Mamba$/.exec(name)!;
    expect(preset.size).toBe(size);
    expect(preset.mlaLayers).toHaveLength(Number(mla));
    expect(transformer.layerCount).toBe(Number(mla) + Number(mamba2));
    expect(hybrid.layers.flatMap((kind, layer) => (kind === 'mla' ? [layer] : []))).toEqual(preset.mlaLayers);
    if (preset.checkpoints) {
      expect(preset.checkpoints).toEqual({ sft: `amd/${name}-SFT`, dpo: `amd/${name}-DPO` });
    }
  });

  it('is written as a released file, and read back', () => {
    const text = writeHybridConfig(hybrid);
    expect(parseHybridConfig(text, transformer)).toEqual(hybrid);
    expect(JSON.parse(text)).not.toHaveProperty('attn_layers');
  });

  it('is what the helper proposes, told the layers or the share', () => {
    const { mlaLayers, cacheSharePercent } = preset;
    const told = proposeHybrid(transformer, { mlaLayers });
    expect(told.hybrid).toEqual(hybrid);
    expect(told.parameters).toBe(PARAMETERS[name][0]);
    expect(told.cacheSharePercent.toFixed(2)).toBe(cacheSharePercent.toFixed(2));
    const asked = proposeHybrid(transformer, { cacheSharePercent });
    expect(asked.mlaLayers).toHaveLength(mlaLayers.length);
    expect(asked.cacheSharePercent).toBe(told.cacheSharePercent);
  });
});

describe('the table', () => {
  it('has six released models, whose base models are Llamas of 1.24, 3.21 and 8.03 billion', () => {
    expect(NAMES.filter((name) => presets[name].checkpoints)).toHaveLength(6);
    const counts = NAMES.map((name) => countParameters(modelSpec(presets[name].base.config)));
    expect([...new Set(counts)]).toEqual([1_235_814_400, 3_212_749_824, 8_030_261_248]);
  });

  it('writes this for the smallest', () => {
    expect(JSON.parse(writeHybridConfig(presetHybridConfig('Zebra-Llama-1B-4MLA-12Mamba')))).toEqual({
      hidden_size: 2048,
      intermediate_size: 8192,
      hidden_act: 'silu',
      n_layer: 16,
      mla_layers: [0, 5, 10, 14],
      rms_norm_eps: 1e-5,
      num_attention_heads: 32,
      num_key_value_heads: 8,
      kv_lora_rank: 128,
      q_lora_rank: 1344,
      use_lora_layer_norm: false,
      use_full_kv_head: false,
      qk_rope_head_dim: 32,
      v_head_dim: 64,
      qk_nope_head_dim: 32,
      qkv_rank_divisor: 8,
      max_position_embeddings: 131072,
      rope_theta: 500000,
      rope_scaling: { factor: 32, original_max_position_embeddings: 8192, rope_type: 'yarn' },
      attention_bias: false,
      attention_dropout: 0,
      rope_type: 'yarn',
      d_model: 2048,
      ssm_cfg: { expand: 1, ngroups: 32, d_state: 64, repeat_kv_before_conv: false },
      d_inner: 2048,
      d_xb: 512,
    });
  });

  it('its base models are what their config.json says', () => {
    expect(
      parseTransformerConfig({
        model_type: 'llama',
        vocab_size: 128256,
        hidden_size: 2048,
        intermediate_size: 8192,
        num_hidden_layers: 16,
        num_attention_heads: 32,
        num_key_value_heads: 8,
        head_dim: 64,
        rms_norm_eps: 1e-5,
        max_position_embeddings: 131072,
        rope_theta: 500000,
        rope_scaling: {
          factor: 32,
          high_freq_factor: 4,
          low_freq_factor: 1,
          original_max_position_embeddings: 8192,
          rope_type: 'llama3',
        },
        tie_word_embeddings: true,
        bos_token_id: 128000,
        eos_token_id: [128001, 128008, 128009],
      }),
    ).toEqual(presets['Zebra-Llama-1B-8MLA-8Mamba'].base.config);
  });

  it('knows no other name', () => {
    for (const name of ['constructor', 'Zebra-Llama-70B']) {
      expect(() => presetHybridConfig(name as PresetName)).toThrow(/expected one of Zebra-Llama-1B-4MLA-12Mamba/);
    }
  });

  it('is the config that createHybridConfig makes', () => {
    const { base, ...preset } = presets['Zebra-Llama-3B-6MLA-22Mamba'];
    const { layers, ...hybrid } = presetHybridConfig('Zebra-Llama-3B-6MLA-22Mamba');
    expect(createHybridConfig(base.config, { ...preset, layers })).toEqual({ layers, ...hybrid });
  });
});
