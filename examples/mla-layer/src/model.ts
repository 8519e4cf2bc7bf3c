// Shapes: B rows, T tokens of this pass, D hidden size.
import { createMlaWeights, type MlaConfig, MlaLayer } from '@zebra/mla';
import {
  add,
  type Device,
  embedding,
  linear,
  Random,
  relu,
  rmsNorm,
  type Shape,
  scope,
  square,
  type Tensor,
  tensor,
} from '@zebra/tensor';
import { SequenceCache, type SequenceContext } from '@zebra/tensor/nn';
import { VOCABULARY } from './task.js';

export const HIDDEN = 32;
const INNER = 64;
const LAYERS = 2;

/** Four heads whose keys and values are made from one latent of 16 numbers a token. */
export const MLA: MlaConfig = {
  hiddenSize: HIDDEN,
  headCount: 4,
  keyValueHeadCount: 4,
  qLoraRank: null, // one full q_proj; a number would put the queries through a latent, too
  kvLoraRank: 16, // what the cache holds of a token …
  qkNopeHeadDim: 8,
  qkRopeHeadDim: 8, // … next to one rotary key for all heads
  vHeadDim: 16,
  useLoraLayerNorm: true,
  useFullKvHead: false,
  rope: { theta: 100, scaling: null },
  maxPositions: 64,
};

/**
 * A small language model: embedding, two blocks of MLA and a squared-ReLU feed-forward part, and a head tied to the
 * embedding. The MLA layer is the one piece that comes ready-made; everything around it is up to you.
 */
export class CopyModel {
  readonly device: Device;
  /** All parameters by name: what the optimizer is given, and what a checkpoint would hold. */
  readonly parameters = new Map<string, Tensor>();
  private readonly mixers: MlaLayer[] = [];

  constructor(device: Device, seed = 2) {
    this.device = device;
    const random = new Random(seed);
    const normal = (name: string, shape: Shape, deviation: number) => {
      const values = Float32Array.from({ length: shape[0]! * shape[1]! }, () => deviation * random.normal());
      this.parameters.set(name, tensor(device, values, shape));
    };
    const ones = (name: string) => this.parameters.set(name, tensor(device, new Float32Array(HIDDEN).fill(1)));

    normal('embedding', [VOCABULARY, HIDDEN], HIDDEN ** -0.5);
    for (let layer = 0; layer < LAYERS; layer++) {
      ones(`${layer}.mixerNorm`);
      // The layer keeps no weights of its own: it works on the tensors that it is given. We own them, so training
      // them means handing the same tensors to the optimizer.
      const weights = createMlaWeights(device, MLA, () => random.uniform());
      for (const [name, weight] of weights) this.parameters.set(`${layer}.mixer.${name}`, weight);
      this.mixers.push(new MlaLayer(MLA, weights));
      ones(`${layer}.innerNorm`);
      normal(`${layer}.up`, [INNER, HIDDEN], HIDDEN ** -0.5);
      normal(`${layer}.down`, [HIDDEN, INNER], INNER ** -0.5 / 2);
    }
    ones('norm');
  }

  /** Embedding and head are one tensor. */
  get head(): Tensor {
    return this.parameter('embedding');
  }

  /**
   * Ids (int32 [B, T]) to hidden states [B, T, D].
   *
   * With a cache the pass continues the tokens that the cache holds. It then needs `positions` (int32 [B, T]): how
   * many tokens there are already is known on the device alone, where the host would have to wait for it.
   */
  forward(ids: Tensor, cached?: { readonly cache: SequenceCache; readonly positions: Tensor }): Tensor {
    // The scope frees every intermediate but the result, unless a gradient still needs it.
    return scope(() => {
      if (!cached) return this.run(ids, {}, undefined);
      const { cache, positions } = cached;
      const states = cache.states;
      // pass() tells the layers how much the cache holds before and after these tokens.
      return cache.pass(ids.shape[1]!, undefined, (context) => this.run(ids, { positions, cache: context }, states));
    });
  }

  private run(ids: Tensor, context: SequenceContext, states: SequenceCache['states'] | undefined): Tensor {
    let x = embedding(this.head, ids);
    this.mixers.forEach((mixer, layer) => {
      const of = (name: string) => this.parameter(`${layer}.${name}`);
      x = add(x, mixer.forward(rmsNorm(x, of('mixerNorm')), context, states?.[layer]));
      const inner = square(relu(linear(rmsNorm(x, of('innerNorm')), of('up'))));
      x = add(x, linear(inner, of('down')));
    });
    return rmsNorm(x, this.parameter('norm'));
  }

  /** An empty cache: one latent state a layer, and the lengths that all layers share. The caller disposes of it. */
  newCache(batch: number, capacity: number): SequenceCache {
    const states = this.mixers.map((mixer) => mixer.newState(batch, capacity));
    return new SequenceCache(this.device, batch, capacity, states);
  }

  private parameter(name: string): Tensor {
    return this.parameters.get(name)!;
  }

  [Symbol.dispose](): void {
    // The layers give up their rotary tables; the weights are ours to free.
    for (const mixer of this.mixers) mixer.dispose();
    for (const parameter of this.parameters.values()) parameter.dispose();
  }
}
