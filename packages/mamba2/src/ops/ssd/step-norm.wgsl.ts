import { defineKernel, type KernelVariant } from '@zebra/tensor';
import { GATE_FUNCTIONS } from './gates.wgsl.js';

/** Compile-time constants of {@link stepNormKernel}. */
interface StepNormConstants {
  /** P, rows of a head's state. */
  readonly rows: number;
  /** Lanes that share a row of the state, a power of two. */
  readonly lanes: number;
  /** Elements of the state that a lane moves at once, 4 or 1. */
  readonly width: number;
}

/** What the kernel can hold of a head in workgroup memory: rows times lanes. */
export const MOST_PARTIAL = 2048;

/**
 * One token of each sequence after its convolution, for GPUs: the state is updated in place, y = S·c + D·x, and the
 * gated norm of y. A workgroup owns a head of a sequence, whose state it reads and writes once, line by line.
 */
export const stepNormKernel = defineKernel({
  name: 'mamba2_step_norm',
  bindings: {
    xbc: 'read',
    row: 'read',
    dt_bias: 'read',
    a_log: 'read',
    skip: 'read',
    weight: 'read',
    segments: 'read',
    state: 'write',
    out: 'write',
  },
  params: {
    count: 'u32',
    heads: 'u32',
    group: 'u32',
    cols: 'u32',
    x_offset: 'u32',
    b_offset: 'u32',
    c_offset: 'u32',
    stride: 'u32',
    z_offset: 'u32',
    dt_offset: 'u32',
    row_stride: 'u32',
    epsilon: 'f32',
  },
  workgroup: 256,
  vectors: ({ constants }) => (constants['width'] === 4 ? { state: 4 } : ({} as Record<string, never>)),
  source: (variant: KernelVariant) => {
    const { rows, lanes, width } = variant.constants as unknown as StepNormConstants;
    const wide = width === 4;
    const type = wide ? 'vec4<f32>' : 'f32';
    const load = (at: string) =>
      wide
        ? `vec4<f32>(f32(xbc[${at}]), f32(xbc[${at} + 1u]), f32(xbc[${at} + 2u]), f32(xbc[${at} + 3u]))`
        : `f32(xbc[${at}])`;
    return /* wgsl */ `${GATE_FUNCTIONS}
var<workgroup> partial: array<f32, ${rows * lanes}>;
var<workgroup> gated: array<f32, ${rows}>;
@compute @workgroup_size(WORKGROUP)
fn main(@builtin(workgroup_id) wid: vec3<u32>, @builtin(num_workgroups) nwg: vec3<u32>, @builtin(local_invocation_index) lid: u32) {
  let index = wid.x + wid.y * nwg.x;
  if (index >= p.count) { return; }
  let h = index % p.heads;
  let b = index / p.heads;
  ${variant.has('segments') ? 'let padding = segments[b] < 0;' : 'let padding = false;'}
  let delta = softplus(f32(row[b * p.row_stride + p.dt_offset + h]) + f32(dt_bias[h]));
  let decay = exp(-exp(f32(a_log[h])) * delta);
  let x_at = p.x_offset + b * p.stride + h / p.group * ${rows}u;
  let b_at = p.b_offset + b * p.stride + h / p.group * p.cols;
  let c_at = p.c_offset + b * p.stride + h * p.cols;
  let units = p.cols / ${width}u;
  for (var i = lid; i < select(${rows * lanes}u, 0u, padding); i += WORKGROUP) {
    let r = i / ${lanes}u;
    let input = delta * f32(xbc[x_at + r]);
    var sum = ${type}();
    for (var u = i % ${lanes}u; u < units; u += ${lanes}u) {
      let at = (index * ${rows}u + r) * units + u;
      let s = state[at] * decay + input * ${load(`b_at + u * ${width}u`)};
      state[at] = s;
      sum += s * ${load(`c_at + u * ${width}u`)};
    }
    partial[i] = ${wide ? '(sum.x + sum.y) + (sum.z + sum.w)' : 'sum'};
  }
  workgroupBarrier();
  for (var r = lid; r < ${rows}u; r += WORKGROUP) {
    var y = f32(skip[h]) * f32(xbc[x_at + r]);
    for (var k = 0u; k < ${lanes}u; k++) { y += partial[r * ${lanes}u + k]; }
    let gate = f32(row[b * p.row_stride + p.z_offset + h * ${rows}u + r]);
    gated[r] = select(y * gate * sigmoid(gate), 0.0, padding);
  }
  workgroupBarrier();
  var squares = 0.0;
  for (var r = 0u; r < ${rows}u; r++) { squares += gated[r] * gated[r]; }
  let scale = inverseSqrt(squares / ${rows}.0 + p.epsilon);
  for (var r = lid; r < ${rows}u; r += WORKGROUP) {
    out[index * ${rows}u + r] = out_t(gated[r] * scale * f32(weight[h * ${rows}u + r]));
  }
}`;
  },
});
