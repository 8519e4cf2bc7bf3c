import { add, randomNormal, rmsNorm, softmax, swiglu, type Tensor } from '@zebra/tensor';
import type { Benchmark, Case, Precision, Scale } from '../runner/case.js';
import { recorded } from '../runner/recorded.js';
import { bytesOf } from './inputs.js';

// Operations that are bound by memory: so many passes over [rows, columns], each read or written once.

interface RowOperation {
  readonly name: string;
  readonly shape: (scale: Scale) => readonly [rows: number, columns: number];
  /** Whole tensors read and written. */
  readonly passes: number;
  readonly flopsPerElement: number;
  /** Length of the second operand: like the first, one row, or none. */
  readonly second?: 'tensor' | 'row';
  /** Also in float16, where the adapter computes in it. */
  readonly halves?: boolean;
  readonly apply: (x: Tensor, second: Tensor) => Tensor;
}

function rowBenchmark({ name, shape, passes, flopsPerElement, second, halves, apply }: RowOperation): Benchmark {
  return {
    name,
    cases(scale): readonly Case[] {
      const [rows, columns] = shape(scale);
      const dtypes: readonly Precision[] = halves && scale.float16 ? ['float32', 'float16'] : ['float32'];
      return dtypes.map((dtype) => ({
        shape: `${rows}×${columns} ${dtype}`,
        work: {
          flops: flopsPerElement * rows * columns,
          bytes: passes * bytesOf(dtype, [rows, columns]),
          precision: dtype,
        },
        prepare(device) {
          const x = randomNormal(device, [rows, columns], { seed: 1, dtype });
          const size = second === 'row' ? [columns] : [rows, columns];
          const other = second && randomNormal(device, size, { seed: 2, dtype });
          return recorded(device, other ? [x, other] : [x], () => [apply(x, other ?? x)]);
        },
      }));
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
  halves: true,
  apply: (x, weight) => rmsNorm(x, weight),
});

export const swigluBenchmark = rowBenchmark({
  name: 'swiglu',
  shape: ({ large }) => (large ? [16_384, 8192] : [1024, 1024]),
  passes: 3,
  flopsPerElement: 5,
  second: 'tensor',
  halves: true,
  apply: swiglu,
});

export const softmaxBenchmark = rowBenchmark({
  name: 'softmax',
  shape: ({ large }) => (large ? [16_384, 4096] : [512, 1024]),
  passes: 2,
  flopsPerElement: 4,
  apply: (x) => softmax(x),
});
