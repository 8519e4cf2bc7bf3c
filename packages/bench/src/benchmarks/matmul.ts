import { matmul, randomNormal } from '@zebra/tensor';
import type { Benchmark, Case, Precision } from '../runner/case.js';
import { recorded } from '../runner/recorded.js';
import { bytesOf } from './inputs.js';

/** How the operands are stored: N as they are, T transposed. */
type Layout = 'NN' | 'NT' | 'TN';

/** One product [M, K] · [K, N] in the dtype of its storage; sums are float32 always. */
export function matmulCase(m: number, k: number, n: number, layout: Layout, dtype: Precision): Case {
  const [transposeA, transposeB] = [layout === 'TN', layout === 'NT'];
  const [a, b] = [transposeA ? [k, m] : [m, k], transposeB ? [n, k] : [k, n]];
  return {
    shape: `${m}×${k}×${n} ${layout} ${dtype}`,
    work: { flops: 2 * m * n * k, bytes: bytesOf(dtype, a, b, [m, n]), precision: dtype },
    prepare(device) {
      const inputs = [a, b].map((shape, index) => randomNormal(device, shape, { dtype, seed: index }));
      return recorded(device, inputs, () => [matmul(inputs[0]!, inputs[1]!, { transposeA, transposeB })]);
    },
  };
}

/** Linear layers of a Llama-3.2-1B at 4 × 2048 tokens (the head in chunks of 1024): rows, outputs, inputs. */
const LAYERS = [
  [8192, 2048, 2048],
  [8192, 512, 2048],
  [8192, 8192, 2048],
  [8192, 2048, 8192],
  [1024, 128_256, 2048],
] as const;

const LAYOUTS = ['NN', 'NT', 'TN'] as const;

export const matmulBenchmark: Benchmark = {
  name: 'matmul',
  cases({ large, float16 }) {
    const cases = LAYOUTS.map((layout) => matmulCase(1024, 128, 128, layout, 'float32'));
    if (large) {
      cases.push(matmulCase(4096, 4096, 4096, 'NN', 'float32'));
      if (float16) {
        for (const side of [4096, 8192]) {
          cases.push(...LAYOUTS.map((layout) => matmulCase(side, side, side, layout, 'float16')));
        }
        // The head over the rows of a decoding step: bound by memory, and larger than caches.
        cases.push(...[1, 8, 64].map((rows) => matmulCase(rows, 2048, 128_256, 'NT', 'float16')));
        // Forward, input gradient, weight gradient.
        for (const [rows, outputs, inputs] of LAYERS) {
          cases.push(matmulCase(rows, inputs, outputs, 'NT', 'float16'));
          cases.push(matmulCase(rows, outputs, inputs, 'NN', 'float16'));
          cases.push(matmulCase(outputs, rows, inputs, 'TN', 'float16'));
        }
      }
    }
    return cases;
  },
};
