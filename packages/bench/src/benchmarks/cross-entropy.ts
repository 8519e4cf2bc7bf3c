import { crossEntropy, type Device, randomNormal, tensor, valueAndGradients } from '@zebra/tensor';
import type { Benchmark, Case, Precision } from '../runner/case.js';
import { recorded } from '../runner/recorded.js';
import { bytesOf, randomIds } from './inputs.js';

interface Sizes {
  readonly tokens: number;
  readonly hiddenSize: number;
  readonly vocabulary: number;
}

/** Hidden states in a dtype; the head is a float32 master, as in training, and rounded where the states are float16. */
function prepare(device: Device, sizes: Sizes, dtype: Precision, backward: boolean) {
  const { tokens, hiddenSize, vocabulary } = sizes;
  const hidden = randomNormal(device, [tokens, hiddenSize], { seed: 1, dtype });
  const head = randomNormal(device, [vocabulary, hiddenSize], { deviation: hiddenSize ** -0.5, seed: 2 });
  const targets = tensor(device, randomIds([tokens], vocabulary));
  return recorded(device, [hidden, head, targets], () => {
    const loss = () => crossEntropy({ hidden, head, targets });
    if (!backward) return [loss()];
    const { value, gradients } = valueAndGradients(loss, [hidden, head]);
    return [value, ...gradients];
  });
}

function crossEntropyCases(sizes: Sizes, dtype: Precision): Case[] {
  const { tokens, hiddenSize, vocabulary } = sizes;
  const bytes = bytesOf(dtype, [tokens, hiddenSize]) + bytesOf('float32', [vocabulary, hiddenSize], [tokens]);
  return [false, true].map((backward) => ({
    shape: `${backward ? '+backward' : 'forward'} N${tokens} D${hiddenSize} V${vocabulary} ${dtype}`,
    // The logits; backward the products with their gradient that give those of hidden and head.
    work: {
      flops: 2 * tokens * hiddenSize * vocabulary * (backward ? 3 : 1),
      bytes: bytes * (backward ? 2 : 1),
      precision: dtype,
      tokens,
    },
    prepare: (device) => prepare(device, sizes, dtype, backward),
  }));
}

/** The loss over the vocabulary from hidden states, its logits in chunks. */
export const crossEntropyBenchmark: Benchmark = {
  name: 'cross-entropy',
  cases({ large, float16 }) {
    if (!large) return crossEntropyCases({ tokens: 1024, hiddenSize: 64, vocabulary: 1024 }, 'float32');
    const sizes = { hiddenSize: 2048, vocabulary: 128_256 };
    return [
      ...crossEntropyCases({ ...sizes, tokens: 4096 }, 'float32'),
      ...(float16 ? crossEntropyCases({ ...sizes, tokens: 8192 }, 'float16') : []),
    ];
  },
};
