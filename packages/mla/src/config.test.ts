import { describe, expect, it } from 'vitest';
import { SMALL } from '../test/small.js';
import { type MlaConfig, mlaSizes, mlaWeightSpecs } from './index.js';

// The 1B model of the Zebra-Llama paper.
const ONE_B: MlaConfig = {
  hiddenSize: 2048,
  headCount: 32,
  keyValueHeadCount: 8,
  qLoraRank: 1344,
  kvLoraRank: 128,
  qkNopeHeadDim: 32,
  qkRopeHeadDim: 32,
  vHeadDim: 64,
  useLoraLayerNorm: false,
  useFullKvHead: false,
  rope: { theta: 500000, scaling: { factor: 32, originalMaxPositionEmbeddings: 8192 } },
};

describe('mlaSizes', () => {
  it('derives sizes and fills in defaults', () => {
    const sizes = mlaSizes(ONE_B);
    expect(sizes).toMatchObject({ keyHeadCount: 8, qkHeadDim: 64, cacheRowSize: 160, softmaxScale: 1 / 8 });
    expect(sizes).toMatchObject({ latentNormEpsilon: 1e-6, maxPositions: 16384 });
    expect(mlaSizes({ ...ONE_B, useFullKvHead: true }).keyHeadCount).toBe(32);
  });

  it('puts YaRN’s magnitude into the softmax scale only with mscaleAllDim', () => {
    const scaled = (scaling: object) =>
      mlaSizes({
        ...ONE_B,
        rope: { theta: 1e4, scaling: { factor: 40, originalMaxPositionEmbeddings: 4096, ...scaling } },
      });
    expect(scaled({ mscale: 0.7 }).softmaxScale).toBe(1 / 8);
    // As DeepSeek-V2 does: (0.1 · 0.7 · ln 40 + 1)².
    expect(scaled({ mscale: 0.7, mscaleAllDim: 0.7 }).softmaxScale).toBeCloseTo((1 / 8) * 1.258221 ** 2, 6);
    expect(scaled({ mscaleAllDim: 0.7, factor: 1 }).softmaxScale).toBe(1 / 8);
  });

  it('names every wrong field at once', () => {
    const wrong = {
      ...SMALL,
      headCount: 5,
      qLoraRank: 0,
      kvLoraRank: 1.5,
      qkRopeHeadDim: 3,
      useFullKvHead: 'no' as never,
      latentNormEpsilon: 0,
      rope: { theta: 1, scaling: { factor: -1, originalMaxPositionEmbeddings: 0, mscale: Number.NaN } },
    };
    const message = () => {
      try {
        mlaSizes(wrong);
      } catch (error) {
        return (error as Error).message;
      }
      return '';
    };
    for (const part of [
      'kvLoraRank must be a positive integer, got 1.5',
      'qLoraRank must be a positive integer, or null',
      'headCount (5) must be a multiple of keyValueHeadCount (2)',
      'qkRopeHeadDim must be even',
      'useFullKvHead must be true or false, got no',
      'latentNormEpsilon must be positive',
      'rope.theta must be above 1',
      'rope.scaling.factor must be positive, got -1',
      'rope.scaling.originalMaxPositionEmbeddings must be a positive integer',
      'rope.scaling.mscale must be a number',
    ]) {
      expect(message()).toContain(part);
    }
    expect(() => mlaSizes({ ...SMALL, rope: undefined as never })).toThrow(/rope must be \{ theta, scaling \}/);
    expect(() => mlaSizes({ ...SMALL, rope: { theta: 10 } as never })).toThrow(/null means plain frequencies/);
  });
});

describe('mlaWeightSpecs', () => {
  it('gives the shapes of the released 1B model', () => {
    expect([...mlaWeightSpecs(ONE_B)]).toEqual([
      ['q_a_proj.weight', [1344, 2048]],
      ['q_b_proj.weight', [2048, 1344]],
      ['kv_a_proj_with_mqa.weight', [160, 2048]],
      ['kv_b_proj.weight', [768, 128]],
      ['out_proj.weight', [2048, 2048]],
    ]);
  });

  it('follows the options', () => {
    const specs = mlaWeightSpecs({ ...ONE_B, qLoraRank: null, useFullKvHead: true, useLoraLayerNorm: true });
    expect([...specs]).toEqual([
      ['q_proj.weight', [2048, 2048]],
      ['kv_a_proj_with_mqa.weight', [160, 2048]],
      ['kv_a_layernorm.weight', [128]],
      ['kv_b_proj.weight', [3072, 128]],
      ['out_proj.weight', [2048, 2048]],
    ]);
  });
});
