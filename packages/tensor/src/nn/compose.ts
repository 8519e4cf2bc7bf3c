import type { Tensor } from '../core/tensor.js';
import { ZebraError } from '../errors.js';
import type { Cache, ForwardOptions, LayeredCausalLM, LayerResult, MixerState, SequenceContext } from './causal-lm.js';
import { runLayers } from './run-layers.js';
import { SequenceCache } from './sequence-cache.js';

/**
 * A model that borrows each layer whole (mixer, MLP, norms) from one of several models, and embedding, final norm and
 * head from `base`. It owns nothing: the models it borrows from must outlive it.
 *
 * @param sources the model that gives layer i, for every i
 * @throws ZebraError `argument` when the models do not fit together
 */
export function composeLayers(base: LayeredCausalLM, sources: readonly LayeredCausalLM[]): LayeredCausalLM {
  if (sources.length !== base.layerCount) {
    throw new ZebraError(
      'argument',
      `composeLayers: expected ${base.layerCount} sources, one a layer, got ${sources.length}`,
    );
  }
  sources.forEach((source, layer) => {
    if (source.hiddenSize !== base.hiddenSize || source.layerCount <= layer) {
      throw new ZebraError(
        'argument',
        `composeLayers: source ${layer} has hidden size ${source.hiddenSize} and ${source.layerCount} layers; the base ${base.hiddenSize} and ${base.layerCount}`,
      );
    }
  });
  return new ComposedModel(base, sources);
}

class ComposedModel implements LayeredCausalLM {
  private readonly base: LayeredCausalLM;
  private readonly sources: readonly LayeredCausalLM[];

  constructor(base: LayeredCausalLM, sources: readonly LayeredCausalLM[]) {
    this.base = base;
    this.sources = sources;
  }

  get device() {
    return this.base.device;
  }
  get vocabularySize() {
    return this.base.vocabularySize;
  }
  get hiddenSize() {
    return this.base.hiddenSize;
  }
  get layerCount() {
    return this.base.layerCount;
  }
  get headWeight() {
    return this.base.headWeight;
  }

  namedParameters(): ReadonlyMap<string, Tensor> {
    const ofLayers = new Set<string>();
    for (let layer = 0; layer < this.layerCount; layer++)
      for (const name of this.base.layerParameters(layer).keys()) ofLayers.add(name);
    const all = new Map([...this.base.namedParameters()].filter(([name]) => !ofLayers.has(name)));
    this.sources.forEach((_, layer) => {
      for (const [name, parameter] of this.layerParameters(layer)) all.set(name, parameter);
    });
    return all;
  }

  layerParameters(layer: number): ReadonlyMap<string, Tensor> {
    return this.source(layer).layerParameters(layer);
  }
  embed(ids: Tensor): Tensor {
    return this.base.embed(ids);
  }
  forwardLayer(layer: number, x: Tensor, context: SequenceContext, state?: MixerState): LayerResult {
    return this.source(layer).forwardLayer(layer, x, context, state);
  }
  finalNorm(x: Tensor): Tensor {
    return this.base.finalNorm(x);
  }
  newLayerState(layer: number, batch: number, capacity: number): MixerState {
    return this.source(layer).newLayerState(layer, batch, capacity);
  }
  newCache(batch: number, capacity: number): Cache {
    const states = this.sources.map((_, layer) => this.newLayerState(layer, batch, capacity));
    return new SequenceCache(this.device, batch, capacity, states);
  }
  forward(ids: Tensor, options?: ForwardOptions): Tensor {
    return runLayers(this, ids, options);
  }

  private source(layer: number): LayeredCausalLM {
    return this.sources[layer] as LayeredCausalLM;
  }
}
