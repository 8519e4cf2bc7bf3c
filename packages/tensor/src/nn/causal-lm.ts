import type { Tensor } from '../core/tensor.js';
import type { Device } from '../device/device.js';

/**
 * Where the tokens of a batch stand: shared by all layers of a forward pass.
 *
 * Shapes: B rows, T tokens a row in this pass.
 */
export interface SequenceContext {
  /** int32 [B, T]: rotary position of each token. Default: 0…T−1 in every row. */
  readonly positions?: Tensor;
  /**
   * int32 [B, T]: document of each token in a packed row, −1 for padding. Attention stays inside a document, and
   * convolution and state start anew with each. Default: a row is one document.
   */
  readonly segments?: Tensor;
  /** Set while a cache is in use. */
  readonly cache?: CacheContext;
}

/** dtypes that a model can compute in. Its residual stream is float32 in both. */
export type ComputeDType = 'float32' | 'float16';

/** The RMSNorm before a layer's mixer, which a step does on the way. */
export interface StepNorm {
  /** [D]. */
  readonly weight: Tensor;
  /** Added to the mean square. */
  readonly eps: number;
  /** What the mixer computes in. */
  readonly dtype: ComputeDType;
}

/** What a layer must know of the cache it continues. */
export interface CacheContext {
  /** int32 [1]: tokens in the cache before this pass. */
  readonly length: Tensor;
  /** int32 [1]: tokens in the cache after this pass. */
  readonly keyLength: Tensor;
  /** int32 [B, capacity]: segments of all cached tokens, those of this pass included; meaningful where the pass has segments. */
  readonly keySegments?: Tensor;
  /** The cache was empty before this pass, so that a layer may work from this pass's tokens alone. */
  readonly fresh: boolean;
}

/** What one layer keeps between passes: keys and values, latents, or a recurrent state. */
export interface MixerState {
  /** Bytes that grow with each token of one row. */
  readonly bytesPerToken: number;
  /** Bytes of one row that do not depend on the sequence's length. */
  readonly constantBytes: number;
  dispose(): void;
}

/** A layer that mixes tokens: attention, MLA or Mamba2. */
export interface Mixer {
  /** `attention`, `mla`, `mamba2` or a name of its author's. */
  readonly kind: string;
  /** Parameters by their names in a checkpoint, without the layer's prefix. */
  namedParameters(): ReadonlyMap<string, Tensor>;
  /**
   * [B, T, D] in, float32 or float16; [B, T, D] out, float32, to be added to the residual stream. It computes in the
   * dtype of `x`. With a state: continues from it and updates it in place (no gradient then).
   */
  forward(x: Tensor, context: SequenceContext, state?: MixerState): Tensor;
  /**
   * x + forward(norm(x)) of one token a row, in few dispatches: what decoding on a GPU takes where it is there. Updates
   * the state as `forward` does, without a gradient; undefined where this layer has no short way.
   *
   * @param x [B, 1, D], float32: the residual stream
   * @returns [B, 1, D], float32, owned by the caller
   */
  step?(x: Tensor, norm: StepNorm, context: SequenceContext, state: MixerState): Tensor | undefined;
  /**
   * An empty state for `batch` rows of at most `capacity` tokens. The caller disposes of it.
   *
   * @param dtype of what grows with the tokens (keys, values, latents): that of the inputs to come. Default float32.
   */
  newState(batch: number, capacity: number, dtype?: ComputeDType): MixerState;
}

/** The states of all layers of one batch of sequences. Made by {@link CausalLM.newCache}. */
export interface Cache {
  readonly batch: number;
  /** Most tokens a row. */
  readonly capacity: number;
  /** Tokens so far, as the host counts them. */
  readonly length: number;
  /** Bytes of one row that grow with each token, and those that do not. */
  readonly bytesPerToken: number;
  readonly constantBytes: number;
  dispose(): void;
}

/** Options of {@link CausalLM.forward}. */
export interface ForwardOptions {
  /** int32 [B, T]; see {@link SequenceContext.positions}. Layers that rotate need it once a cache holds tokens. */
  readonly positions?: Tensor;
  /** int32 [B, T]; see {@link SequenceContext.segments}. */
  readonly segments?: Tensor;
  /** Continue from these states and update them. No gradients then. */
  readonly cache?: Cache;
  /** Called with what each layer saw and made, in order. The tensors belong to the surrounding scope. */
  readonly observe?: (layer: number, seen: LayerObservation) => void;
  /** Recompute each layer in the backward pass instead of keeping its activations. Default false. */
  readonly checkpointLayers?: boolean;
}

/** What went through one layer; [B, T, D] each. */
export interface LayerObservation {
  readonly input: Tensor;
  readonly output: Tensor;
  readonly mixerOutput: Tensor;
}

/**
 * The protocol between models and everything that trains, distils, places or evaluates them. Implement it and your
 * model can be used by all `@zebra/*` packages.
 */
export interface CausalLM {
  readonly device: Device;
  readonly vocabularySize: number;
  readonly hiddenSize: number;
  readonly layerCount: number;
  /** Every parameter by its Hugging Face name. A tied head appears once, as the embedding. */
  namedParameters(): ReadonlyMap<string, Tensor>;
  /** [V, D]; logits are hidden · headWeightᵀ. Apart from `forward`, so that losses can stream over the vocabulary. */
  readonly headWeight: Tensor;
  /** Token ids (int32 [B, T]) to hidden states after the final norm ([B, T, D], float32 or float16 as the model computes). */
  forward(ids: Tensor, options?: ForwardOptions): Tensor;
  /** Empty states for `batch` rows of at most `capacity` tokens each. The caller disposes of it. */
  newCache(batch: number, capacity: number): Cache;
}

/** A model whose layers can be run and swapped one by one: what ILD and SMART need. */
export interface LayeredCausalLM extends CausalLM {
  /** Token ids to the input of layer 0. */
  embed(ids: Tensor): Tensor;
  /** One whole layer (mixer, MLP, norms, residuals). */
  forwardLayer(layer: number, x: Tensor, context: SequenceContext, state?: MixerState): LayerResult;
  /**
   * One whole layer for one token a row, in few dispatches and without a gradient: see {@link Mixer.step}. `runLayers`
   * takes it for decoding on GPUs. Default: {@link forwardLayer}.
   */
  stepLayer?(layer: number, x: Tensor, context: SequenceContext, state: MixerState): Tensor;
  /** The final norm. */
  finalNorm(x: Tensor): Tensor;
  /** Parameters of one layer by their full Hugging Face names. */
  layerParameters(layer: number): ReadonlyMap<string, Tensor>;
  /** An empty state of one layer. */
  newLayerState(layer: number, batch: number, capacity: number): MixerState;
}

/** What one layer gives. */
export interface LayerResult {
  readonly output: Tensor;
  readonly mixerOutput: Tensor;
}
