import type { Benchmark } from '../runner/case.js';
import { adamWBenchmark } from './adamw.js';
import { attentionBenchmark } from './attention.js';
import { crossEntropyBenchmark } from './cross-entropy.js';
import { generateBenchmark } from './generate.js';
import { mamba2Benchmark } from './mamba2.js';
import { matmulBenchmark } from './matmul.js';
import { addBenchmark, rmsNormBenchmark, softmaxBenchmark, swigluBenchmark } from './rows.js';
import { trainStepBenchmark } from './train-step.js';

/** In the order of the table. `peak` runs in front of them. */
export const benchmarks: readonly Benchmark[] = [
  matmulBenchmark,
  addBenchmark,
  rmsNormBenchmark,
  softmaxBenchmark,
  swigluBenchmark,
  adamWBenchmark,
  attentionBenchmark,
  mamba2Benchmark,
  crossEntropyBenchmark,
  trainStepBenchmark,
  generateBenchmark,
];
