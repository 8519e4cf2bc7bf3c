// Shapes: B rows, T tokens, C capacity, V vocabulary, D hidden size.
import {
  add,
  attention,
  cacheWrite,
  type Device,
  embedding,
  keep,
  reshape,
  type Tensor,
  tensor,
  zeros,
} from '@zebra/tensor';
import {
  type Cache,
  type ForwardOptions,
  type LayeredCausalLM,
  type LayerResult,
  type MixerState,
  runLayers,
  SequenceCache,
  type SequenceContext,
} from '@zebra/tensor/nn';
import { normalValues, uniformSource } from '@zebra/tensor/testing';

/**
 * One attention layer over embeddings of tokens and positions, with a cache: the least model whose output depends on
 * every earlier token, on positions and on padding. For tests of what is built around models.
 */
export class TinyModel implements LayeredCausalLM {
  readonly device: Device;
  readonly vocabularySize: number;
  readonly hiddenSize = 8;
  readonly layerCount = 1;
  readonly headWeight: Tensor;
  private readonly table_VD: Tensor;
  private readonly positions_PD: Tensor;

  constructor(device: Device, vocabularySize: number, seed = 1, positions = 64) {
    const random = uniformSource(seed);
    const normal = (rows: number) => keep(tensor(device, normalValues([rows, 8], random).data, [rows, 8]));
    this.device = device;
    this.vocabularySize = vocabularySize;
    this.table_VD = normal(vocabularySize);
    this.headWeight = normal(vocabularySize);
    this.positions_PD = normal(positions);
  }

  namedParameters(): ReadonlyMap<string, Tensor> {
    return new Map([
      ['embed', this.table_VD],
      ['head', this.headWeight],
    ]);
  }

  embed(ids: Tensor): Tensor {
    return embedding(this.table_VD, ids);
  }

  forwardLayer(_layer: number, x_BTD: Tensor, context: SequenceContext, state?: MixerState): LayerResult {
    const [batch, tokens, size] = x_BTD.shape as [number, number, number];
    const { positions, segments, cache } = context;
    const placed_BTD = positions ? add(x_BTD, embedding(this.positions_PD, positions)) : x_BTD;
    const q_BTHD = reshape(placed_BTD, [batch, tokens, 1, size]);
    if (!cache || !(state instanceof TinyState)) {
      const y = attention(q_BTHD, q_BTHD, q_BTHD, { ...(segments && { segments }) });
      const mixerOutput = reshape(y, [batch, tokens, size]);
      return { output: add(x_BTD, mixerOutput), mixerOutput };
    }
    cacheWrite(state.rows_BCHD, q_BTHD, cache.length);
    const y = attention(q_BTHD, state.rows_BCHD, state.rows_BCHD, {
      keyLength: cache.keyLength,
      ...(segments && { segments, keySegments: cache.keySegments! }),
    });
    const mixerOutput = reshape(y, [batch, tokens, size]);
    return { output: add(x_BTD, mixerOutput), mixerOutput };
  }

  finalNorm(x: Tensor): Tensor {
    return x;
  }

  layerParameters(): ReadonlyMap<string, Tensor> {
    return new Map();
  }

  newLayerState(_layer: number, batch: number, capacity: number): MixerState {
    return new TinyState(this.device, batch, capacity, this.hiddenSize);
  }

  newCache(batch: number, capacity: number): Cache {
    return new SequenceCache(this.device, batch, capacity, [this.newLayerState(0, batch, capacity)]);
  }

  forward(ids: Tensor, options?: ForwardOptions): Tensor {
    return runLayers(this, ids, options);
  }

  dispose(): void {
    for (const item of [this.table_VD, this.headWeight, this.positions_PD]) item.dispose();
  }
}

class TinyState implements MixerState {
  readonly rows_BCHD: Tensor;
  readonly bytesPerToken: number;
  readonly constantBytes = 0;

  constructor(device: Device, batch: number, capacity: number, size: number) {
    this.rows_BCHD = keep(zeros(device, [batch, capacity, 1, size]));
    this.bytesPerToken = 4 * size;
  }

  dispose(): void {
    this.rows_BCHD.dispose();
  }
}
