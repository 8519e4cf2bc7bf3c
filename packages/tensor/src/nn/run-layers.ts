import { checkpoint } from '../core/checkpoint.js';
import { scope } from '../core/scope.js';
import { currentTape } from '../core/tape.js';
import type { Tensor } from '../core/tensor.js';
import { ZebraError } from '../errors.js';
import type { ForwardOptions, LayeredCausalLM, LayerObservation, MixerState, SequenceContext } from './causal-lm.js';
import { SequenceCache } from './sequence-cache.js';

/**
 * The forward pass of any layered model, with cache, observation and checkpointing: what `CausalLM.forward` may be.
 * Frees what it makes on the way; what an observer was shown lives in the surrounding scope.
 */
export function runLayers(model: LayeredCausalLM, ids: Tensor, options: ForwardOptions = {}): Tensor {
  const { cache, positions, segments } = options;
  const base: SequenceContext = { ...(positions && { positions }), ...(segments && { segments }) };
  if (!cache) return through(model, ids, base, options);
  if (!(cache instanceof SequenceCache)) {
    throw new ZebraError('argument', 'forward: this cache was not made by newCache() of a model of this library');
  }
  if (ids.shape[0] !== cache.batch) {
    throw new ZebraError(
      'shape',
      `forward: the cache holds ${cache.batch} rows, got ids of shape [${ids.shape.join(', ')}]`,
    );
  }
  return scope(() =>
    cache.pass(ids.shape[1] as number, segments, (context, states) =>
      through(model, ids, { ...base, cache: context }, options, states),
    ),
  );
}

function through(
  model: LayeredCausalLM,
  ids: Tensor,
  context: SequenceContext,
  { observe, checkpointLayers = false }: ForwardOptions,
  states?: readonly MixerState[],
): Tensor {
  const run = () => {
    const shown: LayerObservation[] = [];
    let x = model.embed(ids);
    // The one place that chooses the short way: one token a row, nobody looks, and the kernels are for GPUs.
    const short = states && ids.shape[1] === 1 && !observe && !currentTape() && !model.device.info.software;
    for (let layer = 0; layer < model.layerCount; layer++) {
      if (checkpointLayers && !observe && !states) {
        x = checkpoint([x], (input) => model.forwardLayer(layer, input, context).output);
        continue;
      }
      if (short && model.stepLayer) {
        x = scope(() => model.stepLayer!(layer, x, context, states[layer]!));
        continue;
      }
      const seen = { input: x, ...model.forwardLayer(layer, x, context, states?.[layer]) };
      if (observe) {
        observe(layer, seen);
        shown.push(seen);
      }
      x = seen.output;
    }
    return { hidden: model.finalNorm(x), shown };
  };
  return scope(run).hidden;
}
