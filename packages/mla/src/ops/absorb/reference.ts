import { type HostTensor, hostTensor } from '@zebra/tensor';

type Inputs = readonly (HostTensor | undefined)[];
interface Attributes {
  readonly nopeSize: number;
  readonly valueSize: number;
}

/** First row of `kv_b_proj` of the head that serves query head h. */
function rowOf(weight: HostTensor, { nopeSize, valueSize }: Attributes, heads: number, h: number): number {
  const up = nopeSize + valueSize;
  return Math.floor(h / (heads / (weight.shape[0]! / up))) * up;
}

/** Float64 twin of absorbQueries. */
export const absorbReference = {
  forward([q, weight]: Inputs, attributes: Attributes): HostTensor[] {
    const [batch, tokens, heads, size] = q!.shape as [number, number, number, number];
    const latent = weight!.shape[1]!;
    const { nopeSize } = attributes;
    const row = latent + size - nopeSize;
    const y = hostTensor([batch, tokens, heads, row]);
    for (let head = 0; head < batch * tokens * heads; head++) {
      const first = rowOf(weight!, attributes, heads, head % heads);
      for (let c = 0; c < latent; c++) {
        for (let i = 0; i < nopeSize; i++) {
          y.data[head * row + c]! += q!.data[head * size + i]! * weight!.data[(first + i) * latent + c]!;
        }
      }
      for (let i = nopeSize; i < size; i++) y.data[head * row + latent + i - nopeSize] = q!.data[head * size + i]!;
    }
    return [y];
  },
};

/** Float64 twin of expandValues. */
export const expandReference = {
  forward([x, weight]: Inputs, attributes: Attributes): HostTensor[] {
    const [batch, tokens, heads, latent] = x!.shape as [number, number, number, number];
    const { nopeSize, valueSize } = attributes;
    const y = hostTensor([batch, tokens, heads * valueSize]);
    for (let head = 0; head < batch * tokens * heads; head++) {
      const first = rowOf(weight!, attributes, heads, head % heads) + nopeSize;
      for (let j = 0; j < valueSize; j++) {
        for (let c = 0; c < latent; c++) {
          y.data[head * valueSize + j]! += x!.data[head * latent + c]! * weight!.data[(first + j) * latent + c]!;
        }
      }
    }
    return [y];
  },
};
