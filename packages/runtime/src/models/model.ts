// Shape suffixes: B rows, T tokens, D hidden size, V vocabulary.

import { Mamba2Layer } from '@zebra/mamba2';
import { MlaLayer } from '@zebra/mla';
import { type Device, embedding, rmsNorm, type Tensor, ZebraError } from '@zebra/tensor';
import {
  type Cache,
  checkWeights,
  type ForwardOptions,
  type LayeredCausalLM,
  type LayerResult,
  type MixerState,
  type RopeTables,
  runLayers,
  SequenceCache,
  type SequenceContext,
} from '@zebra/tensor/nn';
import { AttentionLayer } from './attention-layer.js';
import { DecoderLayer, decoderSpecs } from './decoder-layer.js';
import type { ModelSpec } from './model-spec.js';
import { layerPrefix, MIXER_PREFIX, under } from './prefixes.js';
import { attentionTables, type OwnedRopeTables } from './rope.js';
import { modelSpecs } from './specs.js';

/**
 * A decoder-only language model whose layers are attention, MLA or Mamba2 in any mixture: Llama and Qwen (all
 * attention), X-EcoMLA (all MLA), MambaInLlama (attention and Mamba2) and Zebra-Llama (MLA and Mamba2) are one model
 * with different configurations. It owns its weights; `dispose()` frees them.
 */
export class HybridModel implements LayeredCausalLM {
  readonly device: Device;
  readonly spec: ModelSpec;
  readonly hiddenSize: number;
  readonly vocabularySize: number;
  readonly layerCount: number;
  readonly headWeight: Tensor;
  private readonly weights: ReadonlyMap<string, Tensor>;
  private readonly layers: readonly DecoderLayer[];
  private readonly tables: OwnedRopeTables | undefined;
  private readonly mlaLayers: readonly MlaLayer[];

  /**
   * @param weights exactly the parameters of {@link modelSpecs}, float32, or matrices float16 (for inference); owned by
   *   the model from here on
   * @throws ZebraError `dtype` where the spec computes in float16 and the device cannot; `format` that lists every missing, extra and misshaped parameter
   */
  constructor(device: Device, spec: ModelSpec, weights: ReadonlyMap<string, Tensor>) {
    checkWeights('model', modelSpecs(spec), weights);
    assertComputes(device, spec);
    this.device = device;
    this.spec = spec;
    this.weights = weights;
    this.hiddenSize = spec.config.hiddenSize;
    this.vocabularySize = spec.config.vocabularySize;
    this.layerCount = spec.layers.length;
    this.headWeight = weights.get(
      spec.config.tieWordEmbeddings ? 'model.embed_tokens.weight' : 'lm_head.weight',
    ) as Tensor;
    this.tables = spec.layers.includes('attention')
      ? attentionTables(device, spec.config, spec.maxPositions)
      : undefined;
    const mlaLayers: MlaLayer[] = [];
    this.layers = spec.layers.map((_, layer) => this.buildLayer(layer, mlaLayers));
    this.mlaLayers = mlaLayers;
  }

  private buildLayer(layer: number, mlaLayers: MlaLayer[]): DecoderLayer {
    const { config } = this.spec;
    const kind = this.spec.layers[layer]!;
    const all = under(this.weights, layerPrefix(layer));
    const mixerWeights = under(all, `${MIXER_PREFIX[kind]}.`);
    const around = new Map([...decoderSpecs(config).keys()].map((name) => [name, all.get(name) as Tensor]));
    const decoder = { ...config, computeDType: this.spec.computeDType };
    if (kind === 'attention') {
      return new DecoderLayer(decoder, new AttentionLayer(config, mixerWeights, this.tables as RopeTables), around);
    }
    if (kind === 'mamba2') return new DecoderLayer(decoder, new Mamba2Layer(this.spec.mamba2(), mixerWeights), around);
    const mla = new MlaLayer(this.spec.mla(layer), mixerWeights);
    mlaLayers.push(mla);
    return new DecoderLayer(decoder, mla, around);
  }

  namedParameters(): ReadonlyMap<string, Tensor> {
    return this.weights;
  }

  layerParameters(layer: number): ReadonlyMap<string, Tensor> {
    const prefix = layerPrefix(layer);
    return new Map([...this.weights].filter(([name]) => name.startsWith(prefix)));
  }

  embed(ids_BT: Tensor): Tensor {
    return embedding(this.weights.get('model.embed_tokens.weight') as Tensor, ids_BT, { dtype: 'float32' });
  }

  forwardLayer(layer: number, x_BTD: Tensor, context: SequenceContext, state?: MixerState): LayerResult {
    return this.layer(layer).forward(x_BTD, context, state);
  }

  stepLayer(layer: number, x_B1D: Tensor, context: SequenceContext, state: MixerState): Tensor {
    return this.layer(layer).step(x_B1D, context, state);
  }

  finalNorm(x_BTD: Tensor): Tensor {
    const { config, computeDType } = this.spec;
    const weight = this.weights.get('model.norm.weight') as Tensor;
    return rmsNorm(x_BTD, weight, { eps: config.normEpsilon, dtype: computeDType });
  }

  forward(ids_BT: Tensor, options?: ForwardOptions): Tensor {
    return runLayers(this, ids_BT, options);
  }

  newLayerState(layer: number, batch: number, capacity: number): MixerState {
    return this.layer(layer).mixer.newState(batch, capacity, this.spec.computeDType);
  }

  newCache(batch: number, capacity: number): Cache {
    const states = this.layers.map((_, layer) => this.newLayerState(layer, batch, capacity));
    return new SequenceCache(this.device, batch, capacity, states);
  }

  /** Frees the weights and tables. */
  dispose(): void {
    for (const weight of this.weights.values()) weight.dispose();
    for (const layer of this.mlaLayers) layer.dispose();
    this.tables?.dispose();
  }

  [Symbol.dispose](): void {
    this.dispose();
  }

  private layer(index: number): DecoderLayer {
    return this.layers[index] as DecoderLayer;
  }
}

function assertComputes(device: Device, { computeDType }: ModelSpec): void {
  if (computeDType === 'float16' && !device.info.float16) {
    throw new ZebraError(
      'dtype',
      'model: this adapter cannot compute in float16 (it lacks shader-f16). Leave computeDType at float32.',
    );
  }
}
