import { defineKernel, linearMain } from '../../device/kernel.js';

/** Dimensions that the kernel holds once neighbours that stay together are merged. */
export const MAX_DIMENSIONS = 5;

const DIMENSIONS = Array.from({ length: MAX_DIMENSIONS }, (_, d) => d);

/** Gathers the elements of a permuted tensor in output order: sizes n0… and strides s0… in x, outermost first. */
export const permuteKernel = defineKernel({
  name: 'permute',
  bindings: { x: 'read', y: 'write' },
  params: {
    count: 'u32',
    ...(Object.fromEntries(DIMENSIONS.flatMap((d) => [`n${d}`, `s${d}`].map((name) => [name, 'u32']))) as Record<
      string,
      'u32'
    >),
  },
  vectors: ({ constants }) => (constants['vector'] === true ? { x: 4, y: 4 } : ({} as Record<string, never>)),
  source: ({ constants }) => {
    const rank = constants['rank'] as number;
    const inner = DIMENSIONS.slice(1, rank).reverse();
    return linearMain(
      'p.count',
      `  var rest = i;
  var at = 0u;
${inner.map((d) => `  at += (rest % p.n${d}) * p.s${d}; rest /= p.n${d};`).join('\n')}
  y[i] = x[at + rest * p.s0];`,
    );
  },
});
