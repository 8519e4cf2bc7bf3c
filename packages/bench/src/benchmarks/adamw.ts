import { modelSpecs } from '@zebra/runtime';
import { AdamW, elementCount, randomNormal, type Shape } from '@zebra/tensor';
import type { Benchmark, Case } from '../runner/case.js';
import { recorded } from '../runner/recorded.js';
import { benchModels } from './models.js';

/** Read: weight, gradient and both moments; written: weight and moments. Clipping reads the gradient once more. */
const PASSES = 7;

function adamWCase(shape: string, shapes: readonly Shape[], clips: boolean): Case {
  const elements = shapes.reduce((total, each) => total + elementCount(each), 0);
  return {
    shape,
    work: { flops: 14 * elements, bytes: 4 * (PASSES + (clips ? 1 : 0)) * elements },
    prepare(device) {
      const make = (seed: number) =>
        new Map(shapes.map((each, index) => [`w${index}`, randomNormal(device, each, { seed: seed + index })]));
      const [weights, gradients] = [make(1), make(1001)];
      const optimizer = new AdamW(weights, { weightDecay: 0.1, ...(clips && { maxGradientNorm: 1 }) });
      const inputs = [optimizer, ...weights.values(), ...gradients.values()];
      const update = () => {
        optimizer.apply(gradients);
        return [];
      };
      return recorded(device, inputs, update, () => optimizer.prepare(1e-4));
    },
  };
}

export const adamWBenchmark: Benchmark = {
  name: 'adamw',
  cases(scale) {
    const [tensors, rows, columns] = scale.large ? [4, 8192, 2048] : [4, 512, 512];
    const same = new Array<Shape>(tensors).fill([rows, columns]);
    const [llama] = scale.large ? benchModels(scale) : [];
    return [
      adamWCase(`${tensors}×${rows}×${columns} with clipping float32`, same, true),
      ...(llama ? [adamWCase(`${llama.label} float32`, [...modelSpecs(llama.spec(1)).values()], false)] : []),
    ];
  },
};
