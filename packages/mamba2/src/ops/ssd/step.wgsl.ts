import { defineKernel, linearMain } from '@zebra/tensor';
import { GATE_FUNCTIONS } from './gates.wgsl.js';

/** One token of each sequence: updates the state in place and gives y. One invocation a row of a head's state. */
export const stepKernel = defineKernel({
  name: 'mamba2_step',
  bindings: {
    xbc: 'read',
    dt: 'read',
    dt_bias: 'read',
    a_log: 'read',
    skip: 'read',
    segments: 'read',
    state: 'write',
    y: 'write',
  },
  params: {
    count: 'u32',
    heads: 'u32',
    rows: 'u32',
    cols: 'u32',
    group: 'u32',
    x_offset: 'u32',
    b_offset: 'u32',
    c_offset: 'u32',
    stride: 'u32',
    dt_offset: 'u32',
    dt_stride: 'u32',
  },
  workgroup: ({ software }) => (software ? 16 : 64),
  source: ({ has }) =>
    `${GATE_FUNCTIONS}${linearMain(
      'p.count',
      /* wgsl */ `
  let row = i % p.rows;
  let h = (i / p.rows) % p.heads;
  let b = i / (p.rows * p.heads);
  ${has('segments') ? 'if (segments[b] < 0) { y[i] = y_t(0.0); return; }' : ''}
  let delta = softplus(f32(dt[p.dt_offset + b * p.dt_stride + h]) + f32(dt_bias[h]));
  let decay = exp(-exp(f32(a_log[h])) * delta);
  let x = f32(xbc[p.x_offset + b * p.stride + (h / p.group) * p.rows + row]);
  let input = delta * x;
  let b_at = p.b_offset + b * p.stride + (h / p.group) * p.cols;
  let c_at = p.c_offset + b * p.stride + h * p.cols;
  var sum = 0.0;
  for (var n = 0u; n < p.cols; n++) {
    let s = state[i * p.cols + n] * decay + input * f32(xbc[b_at + n]);
    state[i * p.cols + n] = s;
    sum += s * f32(xbc[c_at + n]);
  }
  y[i] = y_t(sum + f32(skip[h]) * x);`,
    )}`,
});
