import { defineKernel } from '../../device/kernel.js';
import { epilogueOf, finished } from './common.wgsl.js';

/** Invocations of a workgroup. */
const THREADS = 256;

/**
 * Adds up the pieces of a product whose sum over k was cut: partial [batch, splits, M·N] into c, in a fixed order, and
 * finishes it: this is also the epilogue of kernels that have none. `vector`: four elements at a time.
 */
export const splitSum = defineKernel({
  name: 'matmul_split_sum',
  bindings: { partial: 'read', c: 'write', bias: 'read', residual: 'read' },
  // `columns` are those of c, which the bias repeats by.
  params: {
    count: 'u32',
    splits: 'u32',
    matrix: 'u32',
    columns: 'u32',
    // Elements of a line of c, and from one line to the next.
    line: 'u32',
    pitch: 'u32',
    c_start: 'u32',
    bias_start: 'u32',
    residual_start: 'u32',
    alpha: 'f32',
  },
  vectors: ({ constants }) =>
    constants['vector'] === true
      ? { partial: 4 as const, c: 4 as const, bias: 4 as const, residual: 4 as const }
      : ({} as Record<string, never>),
  workgroup: THREADS,
  source: (variant) => {
    const type = variant.constants['vector'] === true ? 'vec4<f32>' : 'f32';
    return /* wgsl */ `
@compute @workgroup_size(WORKGROUP)
fn main(@builtin(workgroup_id) wid: vec3<u32>, @builtin(num_workgroups) nwg: vec3<u32>, @builtin(local_invocation_index) lid: u32) {
  let item = (wid.x + wid.y * nwg.x) * WORKGROUP + lid;
  if (item >= p.count) { return; }
  var at = (item / p.matrix) * p.matrix * p.splits + item % p.matrix;
  var total = ${type}();
  for (var s = 0u; s < p.splits; s++) {
    total += partial[at];
    at += p.matrix;
  }
  let i = p.c_start + item / p.line * p.pitch + item % p.line;
  c[i] = ${finished('total', 'p.bias_start + item % p.columns', epilogueOf(variant), type)};
}`;
  },
});
