import { crossEntropy, type Device, tensor, valueAndGradients } from '@zebra/tensor';
import type { Benchmark, Case } from '../runner/case.js';
import { recorded } from '../runner/recorded.js';
import { bytesOf, randomIds, randomTensor } from './inputs.js';

function prepare(device: Device, tokens: number, hiddenSize: number, vocabulary: number, backward: boolean) {
  const hidden = randomTensor(device, [tokens, hiddenSize]);
  const head = randomTensor(device, [vocabulary, hiddenSize], { deviation: hiddenSize ** -0.5, seed: 2 });
  const targets = tensor(device, randomIds([tokens], vocabulary));
  return recorded(device, [hidden, head, targets], () => {
    const loss = () => crossEntropy({ hidden, head, targets });
    if (!backward) return [loss()];
    const { value, gradients } = valueAndGradients(loss, [hidden, head]);
    return [value, ...gradients];
  });
}

/** The loss over the vocabulary from hidden states, its logits in chunks. */
export const crossEntropyBenchmark: Benchmark = {
  name: 'cross-entropy',
  cases({ large }) {
    const [tokens, hiddenSize, vocabulary] = large ? [4096, 2048, 128_256] : [1024, 64, 1024];
    return [false, true].map((backward): Case => {
      const bytes = bytesOf('float32', [tokens, hiddenSize], [vocabulary, hiddenSize], [tokens]);
      return {
        shape: `${backward ? '+backward' : 'forward'} N${tokens} D${hiddenSize} V${vocabulary} float32`,
        // The logits; backward the products with their gradient that give those of hidden and head.
        work: {
          flops: 2 * tokens * hiddenSize * vocabulary * (backward ? 3 : 1),
          bytes: bytes * (backward ? 2 : 1),
          tokens,
        },
        prepare: (device) => prepare(device, tokens, hiddenSize, vocabulary, backward),
      };
    });
  },
};
