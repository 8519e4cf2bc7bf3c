import { describe, expect, it } from 'vitest';
import { parseHybridConfig, parseTransformerConfig, writeHybridConfig } from '../config/index.js';
import { proposeHybrid } from './index.js';
import { evenPlacement } from './placement.js';

const qwen3 = parseTransformerConfig({
  model_type: 'qwen3',
  vocab_size: 151936,
  hidden_size: 1024,
  intermediate_size: 3072,
  num_hidden_layers: 28,
  num_attention_heads: 16,
  num_key_value_heads: 8,
  head_dim: 128,
  tie_word_embeddings: true,
});
const qwen2 = parseTransformerConfig({
  model_type: 'qwen2',
  vocab_size: 151936,
  hidden_size: 896,
  intermediate_size: 4864,
  num_hidden_layers: 24,
  num_attention_heads: 14,
  num_key_value_heads: 2,
  tie_word_embeddings: true,
});
const tiny = parseTransformerConfig({
  model_type: 'llama',
  vocab_size: 512,
  hidden_size: 64,
  intermediate_size: 172,
  num_hidden_layers: 5,
  num_attention_heads: 8,
  num_key_value_heads: 4,
  tie_word_embeddings: true,
});

describe('proposeHybrid', () => {
  it.each([
    // Published sizes of the teachers, from their model cards: 0.6 and 0.5 billion.
    ['Qwen3-0.6B', qwen3, 596_049_920, { qLoraRank: null, kvLoraRank: 128, qkRopeHeadDim: 64 }],
    ['Qwen2.5-0.5B', qwen2, 494_032_768, { qLoraRank: 512, kvLoraRank: 32, qkRopeHeadDim: 32 }],
    ['stories260K', tiny, 260_032, { qLoraRank: 48, kvLoraRank: 8, qkRopeHeadDim: 4 }],
  ] as const)('%s', (_, transformer, teacherParameters, ranks) => {
    const proposal = proposeHybrid(transformer);
    expect(proposal.teacherParameters).toBe(teacherParameters);
    expect(proposal.hybrid.mla).toMatchObject(ranks);
    expect(proposal.mlaLayers).toHaveLength(Math.ceil(transformer.layerCount / 2));
    const { keyValueHeadCount, headDim, layerCount } = transformer;
    const share = (proposal.mlaLayers.length * (ranks.kvLoraRank + ranks.qkRopeHeadDim)) / layerCount;
    expect(proposal.cacheSharePercent).toBeCloseTo((100 * share) / (2 * keyValueHeadCount * headDim), 10);
    expect(parseHybridConfig(writeHybridConfig(proposal.hybrid), transformer)).toEqual(proposal.hybrid);
  });

  it('takes layers, a number of them, or a share', () => {
    expect(proposeHybrid(qwen3, { mlaLayers: [20, 3] }).mlaLayers).toEqual([3, 20]);
    expect(proposeHybrid(qwen3, { mlaLayers: 0 })).toMatchObject({ mlaLayers: [], cacheSharePercent: 0 });
    const all = proposeHybrid(qwen3, { mlaLayers: 28 });
    expect(all).toMatchObject({ stateBytes: 0, cacheSharePercent: 9.375 });
    for (const most of [0.34, 1, 3, 9.38, 50]) {
      const { cacheSharePercent, mlaLayers } = proposeHybrid(qwen3, { cacheSharePercent: most });
      expect(Math.round(100 * cacheSharePercent)).toBeLessThanOrEqual(100 * most);
      if (mlaLayers.length < 28) expect(cacheSharePercent + 9.375 / 28).toBeGreaterThan(most);
    }
  });

  it('takes ranks and sizes', () => {
    const sizes = { qLoraRank: null, kvLoraRank: 24, qkRopeHeadDim: 16, qkNopeHeadDim: 40, vHeadDim: 128 };
    const { hybrid, bytesPerToken } = proposeHybrid(qwen3, { ...sizes, mlaLayers: 2, bytesPerValue: 4 });
    expect(hybrid.mla).toMatchObject(sizes);
    expect(bytesPerToken).toBe(2 * (24 + 16) * 4);
  });

  it('says what cannot be', () => {
    expect(() => proposeHybrid(qwen3, { mlaLayers: 2, cacheSharePercent: 5 })).toThrow(/got both/);
    expect(() => proposeHybrid(qwen3, { mlaLayers: 29 })).toThrow(/0 to 28 layers, got 29/);
    expect(() => proposeHybrid(qwen3, { mlaLayers: 1.5 })).toThrow(/got 1.5/);
    expect(() => proposeHybrid(qwen3, { mlaLayers: [1, 1] })).toThrow(/different layers from 0 to 27, got \[1, 1\]/);
    expect(() => proposeHybrid(qwen3, { mlaLayers: [28] })).toThrow(/got \[28\]/);
    expect(() => proposeHybrid(qwen3, { cacheSharePercent: 0.1 })).toThrow(/one MLA layer keeps 0.33% already/);
    expect(() => proposeHybrid(qwen3, { cacheSharePercent: Number.NaN })).toThrow(/positive number, got NaN/);
    expect(() => proposeHybrid(qwen3, { kvLoraRank: 0 })).toThrow(/kvLoraRank/);
    const linear = { ...qwen3, rope: { theta: 1e4, scaling: { type: 'linear', factor: 2 } } } as const;
    expect(() => proposeHybrid(linear)).toThrow(/the teacher has linear/);
  });
});

describe('evenPlacement', () => {
  it('is the published one where every other layer is MLA', () => {
    for (const layers of [16, 28, 32]) {
      expect(evenPlacement(layers, layers / 2)).toEqual(Array.from({ length: layers / 2 }, (_, i) => 2 * i));
    }
    expect(evenPlacement(28, 6)).toEqual([0, 5, 10, 16, 21, 26]);
    expect(evenPlacement(4, 4)).toEqual([0, 1, 2, 3]);
    expect(evenPlacement(7, 1)).toEqual([0]);
  });
});
