import { checkpoint } from '../core/checkpoint.js';
import type { Tensor } from '../core/tensor.js';
import { ZebraError } from '../errors.js';
import type { ForwardOptions, LayeredCausalLM, LayerObservation, SequenceContext } from './causal-lm.js';
import { SequenceCache } from './sequence-cache.js';

/** The forward pass of any layered model, with cache, observation and checkpointing: what `CausalLM.forward` may be. */
export function runLayers(model: LayeredCausalLM, ids: Tensor, options: ForwardOptions = {}): Tensor {
  const { cache, observe, positions, segments } = options;
  const base: SequenceContext = { ...(positions && { positions }), ...(segments && { segments }) };
  if (!cache) return model.finalNorm(through(model, model.embed(ids), base, options, observe));
  if (!(cache instanceof SequenceCache)) {
    throw new ZebraError('argument', 'forward: this cache was not made by newCache() of a model of this library');
  }
  if (ids.shape[0] !== cache.batch) {
    throw new ZebraError(
      'shape',
      `forward: the cache holds ${cache.batch} rows, got ids of shape [${ids.shape.join(', ')}]`,
    );
  }
  return cache.pass(ids.shape[1] as number, segments, (context, states) => {
    let x = model.embed(ids);
    for (let layer = 0; layer < model.layerCount; layer++) {
      const seen = model.forwardLayer(layer, x, { ...base, cache: context }, states[layer]);
      observe?.(layer, { input: x, ...seen });
      x = seen.output;
    }
    return model.finalNorm(x);
  });
}

function through(
  model: LayeredCausalLM,
  start: Tensor,
  context: SequenceContext,
  options: ForwardOptions,
  observe: ((layer: number, seen: LayerObservation) => void) | undefined,
): Tensor {
  let x = start;
  for (let layer = 0; layer < model.layerCount; layer++) {
    if (options.checkpointLayers && !observe) {
      x = checkpoint([x], (input) => model.forwardLayer(layer, input, context).output);
      continue;
    }
    const seen = model.forwardLayer(layer, x, context);
    observe?.(layer, { input: x, ...seen });
    x = seen.output;
  }
  return x;
}
