import { AdamW, crossEntropy, tensor, valueAndGradients } from '@zebra/tensor';
import type { Benchmark } from '../runner/case.js';
import { recorded } from '../runner/recorded.js';
import { randomIds } from './inputs.js';
import { forwardFlops, parameterCount, randomModel, teacherSpec } from './teacher.js';

/** One training step of the teacher: forward, loss, backward and AdamW in one program, as the trainer records it. */
export const trainStepBenchmark: Benchmark = {
  name: 'train-step',
  cases({ large }) {
    const [rows, length] = large ? [32, 256] : [4, 256];
    const parameters = parameterCount(teacherSpec);
    return [
      {
        shape: `teacher B${rows} T${length} AdamW float32`,
        work: {
          flops: 3 * forwardFlops(teacherSpec, parameters, rows, length),
          // Weights forward and backward, their gradients, and what AdamW reads and writes.
          bytes: parameters * 4 * (3 + 8),
          tokens: rows * length,
        },
        prepare(device) {
          const model = randomModel(device, teacherSpec);
          const { vocabularySize } = model;
          const ids = tensor(device, randomIds([rows, length], vocabularySize), [rows, length]);
          const targets = tensor(device, randomIds([rows, length], vocabularySize, 2), [rows, length]);
          const parametersByName = model.namedParameters();
          const names = [...parametersByName.keys()];
          const optimizer = new AdamW(parametersByName, { weightDecay: 0.1, maxGradientNorm: 1 });
          return recorded(
            device,
            [optimizer, ids, targets, model],
            () => {
              const loss = () => crossEntropy({ hidden: model.forward(ids), head: model.headWeight, targets });
              const { value, gradients } = valueAndGradients(loss, [...parametersByName.values()]);
              optimizer.apply(new Map(names.map((name, index) => [name, gradients[index]!])));
              for (const gradient of gradients) gradient?.dispose();
              return [value];
            },
            () => optimizer.prepare(1e-4),
          );
        },
      },
    ];
  },
};
