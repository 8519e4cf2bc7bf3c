import { tensor } from '../core/create.js';
import { keep } from '../core/scope.js';
import type { Tensor } from '../core/tensor.js';
import type { Device } from '../device/device.js';
import type { Cache, ForwardOptions, LayeredCausalLM, LayerResult, MixerState } from '../nn/causal-lm.js';
import { runLayers } from '../nn/run-layers.js';
import { SequenceCache } from '../nn/sequence-cache.js';
import { embedding } from '../ops/embedding/index.js';
import { linear } from '../ops/matmul/index.js';
import { add, tanh } from '../ops/pointwise/index.js';
import { rmsNorm } from '../ops/rms-norm/index.js';
import { normalValues, uniformSource } from './random-inputs.js';

/** Sizes of a {@link linearModel}. */
export interface LinearModelSizes {
  readonly vocabularySize: number;
  readonly hiddenSize: number;
  readonly layerCount: number;
  readonly seed: number;
}

/** A {@link LayeredCausalLM} that frees its weights. */
export interface OwnedModel extends LayeredCausalLM {
  dispose(): void;
}

const STATELESS: MixerState = { bytesPerToken: 0, constantBytes: 0, dispose() {} };

/**
 * The smallest model that speaks the protocol, for tests: layers x + tanh(x·Wᵀ), a final norm and a head of its own.
 * Tokens do not see each other, so whatever needs mixing cannot be tested with it.
 */
export function linearModel(
  device: Device,
  { vocabularySize, hiddenSize, layerCount, seed }: LinearModelSizes,
): OwnedModel {
  const random = uniformSource(seed);
  const parameters = new Map<string, Tensor>();
  const make = (name: string, shape: readonly number[], scale: number) => {
    const values = normalValues(shape, random).data.map((value) => value * scale);
    parameters.set(name, keep(tensor(device, values, shape)));
  };
  make('model.embed_tokens.weight', [vocabularySize, hiddenSize], 1);
  for (let layer = 0; layer < layerCount; layer++)
    make(`model.layers.${layer}.weight`, [hiddenSize, hiddenSize], hiddenSize ** -0.5);
  make('model.norm.weight', [hiddenSize], 1);
  make('lm_head.weight', [vocabularySize, hiddenSize], hiddenSize ** -0.5);
  const weight = (name: string) => parameters.get(name) as Tensor;
  const model: OwnedModel = {
    device,
    vocabularySize,
    hiddenSize,
    layerCount,
    headWeight: weight('lm_head.weight'),
    namedParameters: () => parameters,
    layerParameters: (layer) => new Map([[`model.layers.${layer}.weight`, weight(`model.layers.${layer}.weight`)]]),
    embed: (ids) => embedding(weight('model.embed_tokens.weight'), ids),
    forwardLayer(layer, x): LayerResult {
      const mixerOutput = tanh(linear(x, weight(`model.layers.${layer}.weight`)));
      return { output: add(x, mixerOutput), mixerOutput };
    },
    finalNorm: (x) => rmsNorm(x, weight('model.norm.weight')),
    forward: (ids: Tensor, options?: ForwardOptions) => runLayers(model, ids, options),
    newLayerState: () => STATELESS,
    newCache: (batch, capacity): Cache =>
      new SequenceCache(device, batch, capacity, new Array<MixerState>(layerCount).fill(STATELESS)),
    dispose() {
      for (const parameter of parameters.values()) parameter.dispose();
    },
  };
  return model;
}
