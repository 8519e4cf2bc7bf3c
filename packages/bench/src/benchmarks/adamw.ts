import { AdamW } from '@zebra/tensor';
import type { Benchmark } from '../runner/case.js';
import { recorded } from '../runner/recorded.js';
import { randomTensor } from './inputs.js';

/** Read: the gradient for its norm, then weight, gradient and both moments; written: weight and moments. */
const PASSES = 8;

export const adamWBenchmark: Benchmark = {
  name: 'adamw',
  cases({ large }) {
    const [tensors, rows, columns] = large ? [4, 8192, 2048] : [4, 512, 512];
    const elements = tensors * rows * columns;
    return [
      {
        shape: `${tensors}×${rows}×${columns} with clipping float32`,
        work: { flops: 14 * elements, bytes: 4 * PASSES * elements },
        prepare(device) {
          const names = Array.from({ length: tensors }, (_, index) => `w${index}`);
          const make = (seed: number) =>
            new Map(names.map((name, index) => [name, randomTensor(device, [rows, columns], { seed: seed + index })]));
          const [weights, gradients] = [make(1), make(11)];
          const optimizer = new AdamW(weights, { weightDecay: 0.1, maxGradientNorm: 1 });
          const inputs = [optimizer, ...weights.values(), ...gradients.values()];
          const update = () => {
            optimizer.apply(gradients);
            return [];
          };
          return recorded(device, inputs, update, () => optimizer.prepare(1e-4));
        },
      },
    ];
  },
};
