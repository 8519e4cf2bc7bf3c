import { add, rmsNorm, softmax, type Tensor } from '@zebra/tensor';
import type { Benchmark, Case, Scale } from '../runner/case.js';
import { recorded } from '../runner/recorded.js';
import { randomTensor } from './inputs.js';

// Operations that are bound by memory: so many passes over [rows, columns], each read or written once.

interface RowOperation {
  readonly name: string;
  readonly shape: (scale: Scale) => readonly [rows: number, columns: number];
  /** Whole tensors read and written. */
  readonly passes: number;
  readonly flopsPerElement: number;
  /** Length of the second operand: like the first, one row, or none. */
  readonly second?: 'tensor' | 'row';
  readonly apply: (x: Tensor, second: Tensor) => Tensor;
}

function rowBenchmark({ name, shape, passes, flopsPerElement, second, apply }: RowOperation): Benchmark {
  return {
    name,
    cases(scale): readonly Case[] {
      const [rows, columns] = shape(scale);
      return [
        {
          shape: `${rows}×${columns} float32`,
          work: { flops: flopsPerElement * rows * columns, bytes: 4 * passes * rows * columns },
          prepare(device) {
            const x = randomTensor(device, [rows, columns]);
            const other = second && randomTensor(device, second === 'row' ? [columns] : [rows, columns], { seed: 2 });
            return recorded(device, other ? [x, other] : [x], () => [apply(x, other ?? x)]);
          },
        },
      ];
    },
  };
}

export const addBenchmark = rowBenchmark({
  name: 'add',
  shape: ({ large }) => (large ? [16_384, 4096] : [1024, 1024]),
  passes: 3,
  flopsPerElement: 1,
  second: 'tensor',
  apply: add,
});

export const rmsNormBenchmark = rowBenchmark({
  name: 'rms-norm',
  shape: ({ large }) => (large ? [16_384, 2048] : [8192, 64]),
  passes: 2,
  flopsPerElement: 4,
  second: 'row',
  apply: (x, weight) => rmsNorm(x, weight),
});

export const softmaxBenchmark = rowBenchmark({
  name: 'softmax',
  shape: ({ large }) => (large ? [16_384, 4096] : [512, 1024]),
  passes: 2,
  flopsPerElement: 4,
  apply: (x) => softmax(x),
});
