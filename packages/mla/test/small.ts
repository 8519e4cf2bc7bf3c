import { type Device, type Tensor, tensor } from '@zebra/tensor';
import { normalValues, uniformSource } from '@zebra/tensor/testing';
import { createMlaWeights, type MlaConfig, MlaLayer, type MlaLayerOptions } from '../src/index.js';

/** A layer small enough for tests that run it token by token. */
export const SMALL: MlaConfig = {
  hiddenSize: 20,
  headCount: 4,
  keyValueHeadCount: 2,
  qLoraRank: 12,
  kvLoraRank: 8,
  qkNopeHeadDim: 8,
  qkRopeHeadDim: 4,
  vHeadDim: 8,
  useLoraLayerNorm: false,
  useFullKvHead: false,
  rope: { theta: 10000, scaling: { factor: 8, originalMaxPositionEmbeddings: 16 } },
  maxPositions: 64,
};

/** {@link SMALL} in its other forms; the last has no size that is a multiple of 4. */
export const VARIANTS: Readonly<Record<string, MlaConfig>> = {
  plain: SMALL,
  norms: { ...SMALL, useLoraLayerNorm: true },
  'full heads, no query latent': { ...SMALL, useFullKvHead: true, qLoraRank: null },
  'awkward sizes': { ...SMALL, hiddenSize: 13, kvLoraRank: 7, qkNopeHeadDim: 3, qkRopeHeadDim: 6, vHeadDim: 5 },
};

/** A layer with fresh weights that are freed with it. */
export function smallLayer(device: Device, config: MlaConfig = SMALL, options: MlaLayerOptions = {}) {
  const next = uniformSource(5);
  const weights = createMlaWeights(device, config, next);
  const layer = new MlaLayer(config, weights, options);
  return {
    layer,
    weights,
    [Symbol.dispose]() {
      layer.dispose();
      for (const weight of weights.values()) weight.dispose();
    },
  };
}

/** Normal values for [B, T, D], on the host. */
export function hidden(batch: number, tokens: number, size: number, seed = 11): Float32Array {
  return Float32Array.from(normalValues([batch, tokens, size], uniformSource(seed)).data);
}

/** int32 [B, T] on the device. */
export function integers(device: Device, rows: readonly (readonly number[])[]): Tensor {
  return tensor(device, Int32Array.from(rows.flat()), [rows.length, rows[0]!.length]);
}
