import { defineKernel, type KernelVariant } from '@zebra/tensor';
import { GATED_NORM_PARAMS, SIGMOID } from './gated-norm.wgsl.js';

/** Invocations of a workgroup. */
export const THREADS = 128;

/** Tokens that an invocation has under way at once, and in all when it sums the gradient of the weight. */
export const TOKENS = 4;
export const TOKENS_OF_GRADIENT = 32;

/**
 * For GPUs: each invocation has one vector of four channels of a group in registers and walks some tokens; the lanes of
 * a group (a power of two, constant `lanes`) sum by shuffles where subgroups are as large (constant `shuffle`).
 */
export interface LanesConstants {
  readonly lanes: number;
  readonly shuffle: boolean;
}

const PARAMS = { ...GATED_NORM_PARAMS, tokens: 'u32', column_blocks: 'u32' } as const;

/** WGSL function that sums a pair over the lanes of each group. */
function laneSum({ constants }: KernelVariant): string {
  const lanes = constants['lanes'] as number;
  if (constants['shuffle'] === true) {
    const steps = [];
    for (let step = lanes / 2; step >= 1; step /= 2) steps.push(`  sum += subgroupShuffleXor(sum, ${step}u);`);
    return `fn lane_sum(value: vec2<f32>, lid: u32) -> vec2<f32> {\n  var sum = value;\n${steps.join('\n')}\n  return sum;\n}`;
  }
  return /* wgsl */ `
var<workgroup> partial: array<vec2<f32>, ${THREADS}>;
fn lane_sum(value: vec2<f32>, lid: u32) -> vec2<f32> {
  workgroupBarrier();
  partial[lid] = value;
  workgroupBarrier();
  var sum = vec2<f32>();
  for (var k = 0u; k < ${lanes}u; k++) { sum += partial[lid / ${lanes}u * ${lanes}u + k]; }
  return sum;
}`;
}

/** An entry point: `lid`, `column` (in vectors; of a token of `width`) and whether it is `inside`, first and last token. */
function lanesMain(variant: KernelVariant, tokens: number, body: string): string {
  const lanes = variant.constants['lanes'] as number;
  return /* wgsl */ `${SIGMOID}
fn gate_of(z: vec4<f32>) -> vec4<f32> { return vec4<f32>(sigmoid(z.x), sigmoid(z.y), sigmoid(z.z), sigmoid(z.w)); }
${laneSum(variant)}
@compute @workgroup_size(WORKGROUP)
fn main(@builtin(workgroup_id) wid: vec3<u32>, @builtin(num_workgroups) nwg: vec3<u32>, @builtin(local_invocation_index) lid: u32) {
  let item = wid.x + wid.y * nwg.x;
  if (item >= p.count) { return; }
  let group = item % p.column_blocks * ${THREADS / lanes}u + lid / ${lanes}u;
  let lane = lid % ${lanes}u;
  let size = p.size / 4u;
  let width = p.groups * size;
  // Lanes past the end of a group or token go along to the sums, look at the last column and write nothing.
  let inside = group < p.groups && lane < size;
  let column = min(group, p.groups - 1u) * size + min(lane, size - 1u);
  let first = item / p.column_blocks * ${tokens}u;
  let last = min(first + ${tokens}u, p.tokens);
  let w = vec4<f32>(weight[column]) * select(0.0, 1.0, inside);
${body}
}`;
}

const tokens = Array.from({ length: TOKENS }, (_, k) => k);

/** v = y·silu(z), out = v / √(mean v² + ε)·weight over each group. */
export const gatedNormLanesKernel = defineKernel({
  name: 'mamba2_gated_norm_lanes',
  bindings: { y: 'read', z: 'read', weight: 'read', out: 'write' },
  params: PARAMS,
  vectors: () => ({ y: 4, z: 4, weight: 4, out: 4 }),
  workgroup: THREADS,
  source: (variant) =>
    lanesMain(
      variant,
      TOKENS,
      /* wgsl */ `
${tokens.map((k) => `  let t${k} = min(first + ${k}u, p.tokens - 1u); let y${k} = y[t${k} * width + column]; let z${k} = z[p.z_offset + t${k} * p.z_stride + column];`).join('\n')}
${tokens
  .map(
    (k) => /* wgsl */ `
  {
    let gate = vec4<f32>(z${k});
    let v = vec4<f32>(y${k}) * gate * gate_of(gate);
    let sum = lane_sum(vec2<f32>(select(0.0, dot(v, v), inside), 0.0), lid).x;
    let r = inverseSqrt(sum / f32(p.size) + p.epsilon);
    if (inside && first + ${k}u < last) { out[t${k} * width + column] = out_t(v * r * w); }
  }`,
  )
  .join('')}`,
    ),
});

/** Gradients of y and z, and the share of a block of tokens in that of the weight, [blocks, d_inner]. */
export const gatedNormLanesGradientKernel = defineKernel({
  name: 'mamba2_gated_norm_lanes_gradient',
  bindings: { y: 'read', z: 'read', weight: 'read', g: 'read', dy: 'write', dz: 'write', shares: 'write' },
  params: PARAMS,
  vectors: () => ({ y: 4, z: 4, weight: 4, g: 4, dy: 4, dz: 4, shares: 4 }),
  workgroup: THREADS,
  source: (variant) =>
    lanesMain(
      variant,
      TOKENS_OF_GRADIENT,
      /* wgsl */ `
  var dw = vec4<f32>();
  var next_y = y[first * width + column];
  var next_z = z[p.z_offset + first * p.z_stride + column];
  var next_g = g[first * width + column];
  for (var t = first; t < last; t++) {
    let value = vec4<f32>(next_y);
    let gate = vec4<f32>(next_z);
    let up = vec4<f32>(next_g);
    let ahead = min(t + 1u, last - 1u);
    next_y = y[ahead * width + column];
    next_z = z[p.z_offset + ahead * p.z_stride + column];
    next_g = g[ahead * width + column];
    let s = gate_of(gate);
    let v = value * gate * s;
    let sums = lane_sum(select(vec2<f32>(), vec2<f32>(dot(v, v), dot(v, up * w)), inside), lid);
    let r = inverseSqrt(sums.x / f32(p.size) + p.epsilon);
    let pull = r * r * sums.y / f32(p.size);
    let dv = r * (up * w - v * pull);
    dw += up * v * r;
    if (inside) {
      dy[t * width + column] = dy_t(dv * gate * s);
      dz[p.dz_offset + t * p.dz_stride + column] = dz_t(dv * value * s * (1.0 + gate * (1.0 - s)));
    }
  }
  if (inside) { shares[item / p.column_blocks * width + column] = dw; }`,
    ),
});
