import { add, type Device, embedding, keep, linear, Random, rmsNorm, silu, type Tensor, tensor } from '@zebra/tensor';
import {
  type Cache,
  type ForwardOptions,
  type LayeredCausalLM,
  type LayerResult,
  type MixerState,
  runLayers,
} from '@zebra/tensor/nn';

/** Sizes of a {@link TinyModel}. */
export interface TinySizes {
  readonly vocabulary: number;
  readonly hidden: number;
  readonly layers: number;
}

/** The smallest model that speaks the layered protocol, with no view of other tokens: for tests of losses and recipes. */
export class TinyModel implements LayeredCausalLM {
  readonly device: Device;
  readonly vocabularySize: number;
  readonly hiddenSize: number;
  readonly layerCount: number;
  private readonly weights = new Map<string, Tensor>();

  constructor(device: Device, { vocabulary, hidden, layers }: TinySizes, seed: number) {
    this.device = device;
    this.vocabularySize = vocabulary;
    this.hiddenSize = hidden;
    this.layerCount = layers;
    const random = new Random(seed);
    const matrix = (rows: number, scale: number) =>
      keep(
        tensor(
          device,
          Float32Array.from({ length: rows * hidden }, () => scale * random.normal()),
          [rows, hidden],
        ),
      );
    this.weights.set('model.embed_tokens.weight', matrix(vocabulary, 1));
    for (let layer = 0; layer < layers; layer++) {
      this.weights.set(`model.layers.${layer}.mixer.weight`, matrix(hidden, 0.5 / Math.sqrt(hidden)));
      this.weights.set(`model.layers.${layer}.mlp.weight`, matrix(hidden, 0.5 / Math.sqrt(hidden)));
    }
    this.weights.set('model.norm.weight', keep(tensor(device, new Float32Array(hidden).fill(1.5))));
  }

  get headWeight(): Tensor {
    return this.weight('model.embed_tokens.weight');
  }
  namedParameters(): ReadonlyMap<string, Tensor> {
    return this.weights;
  }
  layerParameters(layer: number): ReadonlyMap<string, Tensor> {
    return new Map([...this.weights].filter(([name]) => name.startsWith(`model.layers.${layer}.`)));
  }
  embed(ids: Tensor): Tensor {
    return embedding(this.headWeight, ids);
  }
  forwardLayer(layer: number, x: Tensor): LayerResult {
    const mixerOutput = linear(x, this.weight(`model.layers.${layer}.mixer.weight`));
    const middle = add(x, mixerOutput);
    return { output: add(middle, silu(linear(middle, this.weight(`model.layers.${layer}.mlp.weight`)))), mixerOutput };
  }
  finalNorm(x: Tensor): Tensor {
    return rmsNorm(x, this.weight('model.norm.weight'), { eps: 1e-5 });
  }
  forward(ids: Tensor, options?: ForwardOptions): Tensor {
    return runLayers(this, ids, options);
  }
  newCache(): Cache {
    throw new Error('TinyModel has no cache');
  }
  newLayerState(): MixerState {
    throw new Error('TinyModel has no cache');
  }
  dispose(): void {
    for (const weight of this.weights.values()) weight.dispose();
  }

  private weight(name: string): Tensor {
    return this.weights.get(name) as Tensor;
  }
}
