import { defineKernel, linearMain } from '../../device/kernel.js';

/** Adds up the pieces of a product whose sum over k was cut: partial [batch, splits, M·N] into c, in a fixed order. */
export const splitSum = defineKernel({
  name: 'matmul_split_sum',
  bindings: { partial: 'read', c: 'write' },
  params: { count: 'u32', splits: 'u32', matrix: 'u32', c_start: 'u32', alpha: 'f32' },
  source: ({ constants }) =>
    linearMain(
      'p.count',
      /* wgsl */ `
  var at = (i / p.matrix) * p.matrix * p.splits + i % p.matrix;
  var total = 0.0;
  for (var s = 0u; s < p.splits; s++) {
    total += partial[at];
    at += p.matrix;
  }
  let o = p.c_start + i;
  c[o] = c_t(p.alpha * total${constants['accumulate'] === true ? ' + f32(c[o])' : ''});`,
    ),
});
