import type { Benchmark } from '../runner/case.js';
import { adamWBenchmark } from './adamw.js';
import { attentionBenchmark } from './attention.js';
import { coldStartBenchmark } from './cold-start.js';
import { copyBenchmark } from './copy.js';
import { crossEntropyBenchmark } from './cross-entropy.js';
import { decodeBenchmark } from './decode.js';
import { forwardBenchmark, prefillBenchmark } from './forward.js';
import { generateBenchmark } from './generate.js';
import { mamba2Benchmark } from './mamba2.js';
import { matmulBenchmark } from './matmul.js';
import { addBenchmark, rmsNormBenchmark, softmaxBenchmark, swigluBenchmark } from './rows.js';
import { scanBenchmark } from './scan.js';
import { distillationStepBenchmark, trainStepBenchmark } from './train-step.js';

/** In the order of the table. `peak` runs in front of them. */
export const benchmarks: readonly Benchmark[] = [
  copyBenchmark,
  matmulBenchmark,
  addBenchmark,
  rmsNormBenchmark,
  softmaxBenchmark,
  swigluBenchmark,
  adamWBenchmark,
  attentionBenchmark,
  scanBenchmark,
  mamba2Benchmark,
  crossEntropyBenchmark,
  forwardBenchmark,
  trainStepBenchmark,
  distillationStepBenchmark,
  prefillBenchmark,
  decodeBenchmark,
  generateBenchmark,
  coldStartBenchmark,
];
