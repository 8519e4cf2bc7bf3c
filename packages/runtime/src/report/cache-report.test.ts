import { testDevice } from '@zebra/tensor/testing';
import { describe, expect, it } from 'vitest';
import { createHybridConfig, type HybridLayerKind, parseTransformerConfig } from '../config/index.js';
import { TinyModel } from '../tiny-model.testing.js';
import { cacheReport, modelCacheReport } from './cache-report.js';

// Shapes of the Llama 3 family, and the share of the KV cache published for each placement (arXiv 2505.17272).
const SIZES = {
  '1B': { hidden: 2048, layers: 16, heads: 32, head_dim: 64, kvRank: 128, ropeDim: 32 },
  '3B': { hidden: 3072, layers: 28, heads: 24, head_dim: 128, kvRank: 128, ropeDim: 64 },
  '8B': { hidden: 4096, layers: 32, heads: 32, head_dim: 128, kvRank: 160, ropeDim: 64 },
};

function configsOf(size: keyof typeof SIZES, mlaLayers: number) {
  const { hidden, layers, heads, head_dim, kvRank, ropeDim } = SIZES[size];
  const transformer = parseTransformerConfig({
    model_type: 'llama',
    vocab_size: 128256,
    hidden_size: hidden,
    intermediate_size: 8192,
    num_hidden_layers: layers,
    num_attention_heads: heads,
    num_key_value_heads: 8,
    head_dim,
  });
  const kinds = Array.from({ length: layers }, (_, i): HybridLayerKind => (i < mlaLayers ? 'mla' : 'mamba2'));
  const hybrid = createHybridConfig(transformer, { layers: kinds, kvLoraRank: kvRank, qkRopeHeadDim: ropeDim });
  return { transformer, hybrid };
}

describe('cacheReport', () => {
  it.each([
    ['1B', 4, '3.91'],
    ['1B', 6, '5.86'],
    ['1B', 8, '7.81'],
    ['3B', 6, '2.01'],
    ['3B', 8, '2.68'],
    ['3B', 14, '4.69'],
    ['8B', 8, '2.73'],
    ['8B', 16, '5.47'],
  ] as const)('%s with %d MLA layers keeps %s%%', (size, mlaLayers, published) => {
    expect(cacheReport(configsOf(size, mlaLayers)).sharePercent.toFixed(2)).toBe(published);
  });

  it('counts bytes', () => {
    const report = cacheReport(configsOf('1B', 4));
    expect(report.teacherBytesPerToken).toBe(16 * 2 * 8 * 64 * 2);
    expect(report.bytesPerToken).toBe(4 * (128 + 32) * 2);
    // 12 layers of 3072 channels times 4 and 32 heads of 64 by 64.
    expect(report.stateBytes).toBe(12 * (3072 * 4 + 32 * 64 * 64) * 2);
    expect(report.breakEvenTokens).toBe(Math.ceil(report.stateBytes / (32768 - 1280)));
    expect(cacheReport(configsOf('1B', 4), { bytesPerValue: 4 }).bytesPerToken).toBe(2 * report.bytesPerToken);
  });

  it('counts attention layers, ranks a layer, and a plain Transformer', () => {
    const { transformer, hybrid } = configsOf('1B', 1);
    const layers = hybrid.layers.map((kind, i): HybridLayerKind => (i === 1 ? 'attention' : kind));
    const layerRanks = new Map([[0, { qLoraRank: null, kvLoraRank: 64 }]]);
    const report = cacheReport({ transformer, hybrid: { ...hybrid, layers, mla: { ...hybrid.mla, layerRanks } } });
    expect(report.bytesPerToken).toBe((64 + 32 + 2 * 8 * 64) * 2);
    const plain = cacheReport({ transformer });
    expect(plain).toMatchObject({ sharePercent: 100, stateBytes: 0, breakEvenTokens: 0 });
  });
});

describe('modelCacheReport', () => {
  it('counts what a model really keeps, and leaks nothing', async () => {
    const device = await testDevice();
    const model = new TinyModel(device, 16);
    const before = device.statistics().liveBuffers;
    expect(modelCacheReport(model)).toMatchObject({ bytesPerToken: 32, teacherBytesPerToken: 32, sharePercent: 100 });
    expect(device.statistics().liveBuffers).toBe(before);
    model.dispose();
  });
});
