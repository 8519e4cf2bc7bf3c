import { type Device, embedding, keep, linear, Random, rmsNorm, silu, type Tensor, tensor } from '@zebra/tensor';
import type { Cache, CausalLM } from '@zebra/tensor/nn';

/** The smallest causal language model there is, a bigram network: for tests of losses and recipes. */
export class TinyModel implements CausalLM {
  readonly device: Device;
  readonly vocabularySize: number;
  readonly hiddenSize: number;
  readonly layerCount = 1;
  private readonly weights: ReadonlyMap<string, Tensor>;

  constructor(device: Device, vocabularySize: number, hiddenSize: number, seed: number) {
    this.device = device;
    this.vocabularySize = vocabularySize;
    this.hiddenSize = hiddenSize;
    const random = new Random(seed);
    const matrix = (rows: number) =>
      keep(
        tensor(
          device,
          Float32Array.from({ length: rows * hiddenSize }, () => random.normal()),
          [rows, hiddenSize],
        ),
      );
    this.weights = new Map([
      ['embedding', matrix(vocabularySize)],
      ['layer', matrix(hiddenSize)],
      ['norm', keep(tensor(device, new Float32Array(hiddenSize).fill(1)))],
      ['head', matrix(vocabularySize)],
    ]);
  }

  get headWeight(): Tensor {
    return this.weight('head');
  }
  namedParameters(): ReadonlyMap<string, Tensor> {
    return this.weights;
  }
  forward(ids: Tensor): Tensor {
    return rmsNorm(silu(linear(embedding(this.weight('embedding'), ids), this.weight('layer'))), this.weight('norm'));
  }
  newCache(): Cache {
    throw new Error('TinyModel has no cache');
  }
  dispose(): void {
    for (const weight of this.weights.values()) weight.dispose();
  }

  /** log π of a row's targets that count, in float64 from this model's hidden states. */
  async logProbability(ids: readonly number[], targets: readonly number[]): Promise<number> {
    const [head, size] = [await this.weight('head').read(), this.hiddenSize];
    const given = tensor(this.device, Int32Array.from(ids), [1, ids.length]);
    const made = this.forward(given);
    const hidden = await made.read();
    given.dispose();
    made.dispose();
    let total = 0;
    targets.forEach((target, t) => {
      if (target < 0) return;
      const logits = Array.from({ length: this.vocabularySize }, (_, v) => {
        let dot = 0;
        for (let i = 0; i < size; i++) dot += hidden[t * size + i]! * head[v * size + i]!;
        return dot;
      });
      const largest = Math.max(...logits);
      total += logits[target]! - largest - Math.log(logits.reduce((sum, value) => sum + Math.exp(value - largest), 0));
    });
    return total;
  }

  private weight(name: string): Tensor {
    return this.weights.get(name) as Tensor;
  }
}
