import { mamba2WeightSpecs } from '@zebra/mamba2';
import { mlaWeightSpecs } from '@zebra/mla';
import type { Shape } from '@zebra/tensor';
import { attentionSpecs } from './attention-layer.js';
import { decoderSpecs } from './decoder-layer.js';
import type { ModelSpec } from './model-spec.js';
import { layerPrefix, MIXER_PREFIX, prefixed } from './prefixes.js';

/** Expected parameters of a mixer, by name. */
function mixerSpecs(spec: ModelSpec, layer: number): ReadonlyMap<string, Shape> {
  switch (spec.layers[layer]!) {
    case 'attention':
      return attentionSpecs(spec.config);
    case 'mla':
      return mlaWeightSpecs(spec.mla(layer));
    case 'mamba2':
      return mamba2WeightSpecs(spec.mamba2());
  }
}

/**
 * Every parameter that a checkpoint of this model must hold, by Hugging Face name. A tied model's `lm_head.weight` is
 * not among them: where a checkpoint stores it all the same it must equal the embedding's shape, and is dropped.
 */
export function modelSpecs(spec: ModelSpec): Map<string, Shape> {
  const { config } = spec;
  const all = new Map<string, Shape>([['model.embed_tokens.weight', [config.vocabularySize, config.hiddenSize]]]);
  spec.layers.forEach((kind, layer) => {
    const prefix = layerPrefix(layer);
    for (const [name, shape] of prefixed(mixerSpecs(spec, layer), `${prefix}${MIXER_PREFIX[kind]}.`))
      all.set(name, shape);
    for (const [name, shape] of prefixed(decoderSpecs(config), prefix)) all.set(name, shape);
  });
  all.set('model.norm.weight', [config.hiddenSize]);
  if (!config.tieWordEmbeddings) all.set('lm_head.weight', [config.vocabularySize, config.hiddenSize]);
  return all;
}
