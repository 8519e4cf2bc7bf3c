import { attention, sum, type Tensor, valueAndGradients } from '@zebra/tensor';
import type { Benchmark, Case, Precision, Work } from '../runner/case.js';
import { recorded } from '../runner/recorded.js';
import { bytesOf, randomTensor } from './inputs.js';

interface Sizes {
  readonly batch: number;
  readonly length: number;
  readonly heads: number;
  readonly keyHeads: number;
  readonly headSize: number;
}

/** Products of causal attention, each of head size × pairs of query and key: two forward; five backward, which needs the scores again. */
function workOf({ batch, length, heads, keyHeads, headSize }: Sizes, products: number, dtype: Precision): Work {
  const pairs = (batch * heads * length * (length + 1)) / 2;
  const [q, k] = [
    [batch, length, heads, headSize],
    [batch, length, keyHeads, headSize],
  ];
  // q, k, v and y; backward the same again, their gradients.
  const bytes = bytesOf(dtype, q, k, k, q) * (products > 2 ? 3 : 1);
  return { flops: 2 * products * headSize * pairs, bytes, precision: dtype };
}

function attentionCases(sizes: Sizes, dtype: Precision): Case[] {
  const { batch, length, heads, keyHeads, headSize } = sizes;
  const shape = `B${batch} T${length} H${heads}/${keyHeads} d${headSize} ${dtype}`;
  const inputs = (device: Parameters<Case['prepare']>[0]): [Tensor, Tensor, Tensor] => [
    randomTensor(device, [batch, length, heads, headSize], { dtype, seed: 1 }),
    randomTensor(device, [batch, length, keyHeads, headSize], { dtype, seed: 2 }),
    randomTensor(device, [batch, length, keyHeads, headSize], { dtype, seed: 3 }),
  ];
  return [
    {
      shape: `forward ${shape}`,
      work: workOf(sizes, 2, dtype),
      prepare(device) {
        const [q, k, v] = inputs(device);
        return recorded(device, [q, k, v], () => [attention(q, k, v)]);
      },
    },
    {
      shape: `+backward ${shape}`,
      work: workOf(sizes, 7, dtype),
      prepare(device) {
        const [q, k, v] = inputs(device);
        return recorded(device, [q, k, v], () => {
          const { value, gradients } = valueAndGradients(() => sum(attention(q, k, v)), [q, k, v]);
          return [value, ...gradients];
        });
      },
    },
  ];
}

export const attentionBenchmark: Benchmark = {
  name: 'attention',
  cases({ large, float16 }) {
    if (!large) return attentionCases({ batch: 4, length: 256, heads: 4, keyHeads: 2, headSize: 16 }, 'float32');
    const sizes = { batch: 8, length: 2048, heads: 32, keyHeads: 32, headSize: 64 };
    // The last is that of a training step of Llama-3.2-1B.
    const halves = float16 ? [sizes, { ...sizes, batch: 4, keyHeads: 8 }] : [];
    return [...attentionCases(sizes, 'float32'), ...halves.flatMap((each) => attentionCases(each, 'float16'))];
  },
};
