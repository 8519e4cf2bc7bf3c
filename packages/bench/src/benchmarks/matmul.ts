import { matmul } from '@zebra/tensor';
import type { Benchmark, Case, Precision } from '../runner/case.js';
import { recorded } from '../runner/recorded.js';
import { bytesOf, randomTensor } from './inputs.js';

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
      const inputs = [a, b].map((shape, index) => randomTensor(device, shape, { dtype, seed: index }));
      return recorded(device, inputs, () => [matmul(inputs[0]!, inputs[1]!, { transposeA, transposeB })]);
    },
  };
}

const LAYOUTS = ['NN', 'NT', 'TN'] as const;

export const matmulBenchmark: Benchmark = {
  name: 'matmul',
  cases({ large, float16 }) {
    const cases = LAYOUTS.map((layout) => matmulCase(1024, 128, 128, layout, 'float32'));
    if (large) {
      cases.push(matmulCase(4096, 4096, 4096, 'NN', 'float32'));
      if (float16) cases.push(...LAYOUTS.map((layout) => matmulCase(4096, 4096, 4096, layout, 'float16')));
    }
    return cases;
  },
};
