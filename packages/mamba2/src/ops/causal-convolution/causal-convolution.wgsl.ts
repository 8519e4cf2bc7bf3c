import { defineKernel, linearMain } from '@zebra/tensor';
import { segmentHelpers } from '../../rows.js';

/** Tokens that one invocation walks. */
export const BLOCK = 16;

const CONVOLUTION_PARAMS = {
  count: 'u32',
  length: 'u32',
  channels: 'u32',
  blocks: 'u32',
  x_offset: 'u32',
  x_stride: 'u32',
  y_offset: 'u32',
  y_stride: 'u32',
  repeat: 'u32',
  head_dim: 'u32',
  group: 'u32',
  key_value: 'u32',
  inner: 'u32',
} as const;

/** Column of the input that a channel reads: with `repeat`, x and B have fewer heads in the row than channels. */
const SOURCE = /* wgsl */ `
fn source_of(c: u32) -> u32 {
  if (p.repeat == 0u) { return c; }
  if (c >= 2u * p.inner) { return c - 2u * p.inner + 2u * p.key_value; }
  let within = c % p.inner;
  return (c / p.inner) * p.key_value + (within / (p.head_dim * p.group)) * p.head_dim + within % p.head_dim;
}`;

/** The window of the last three inputs, and what a token does to it. `advance` gives whether the token counts. */
const window = (segments: boolean, state: boolean) => /* wgsl */ `
${segmentHelpers(segments, state)}
${SOURCE}
var<private> x1: f32;
var<private> x2: f32;
var<private> x3: f32;
// How many of the three are of this token's document.
var<private> depth: u32;
fn x_value(b: u32, t: u32, c: u32) -> f32 { return f32(x[p.x_offset + (b * p.length + t) * p.x_stride + c]); }
fn enter(b: u32, t: u32, c: u32, state_at: u32) {
  x1 = 0.0; x2 = 0.0; x3 = 0.0; depth = 0u;
  let origin = max(t, 3u) - 3u;
${
  state
    ? '  if (leading(b, origin)) { x1 = state[state_at + 3u]; x2 = state[state_at + 2u]; x3 = state[state_at + 1u]; }'
    : ''
}
  for (var i = origin; i < t; i++) {
    if (padded(b, i)) { continue; }
    begin(b, i);
    shift(x_value(b, i, c));
  }
}
fn begin(b: u32, t: u32) {
  if (starts(b, t)) { x1 = 0.0; x2 = 0.0; x3 = 0.0; depth = 0u; }
}
fn shift(value: f32) { x3 = x2; x2 = x1; x1 = value; depth = min(depth + 1u, 3u); }
fn sigmoid(v: f32) -> f32 {
  let t = exp(-abs(v));
  return select(t, 1.0, v >= 0.0) / (1.0 + t);
}`;

const INDICES = /* wgsl */ `
  let c = i % p.channels;
  let block = (i / p.channels) % p.blocks;
  let b = i / (p.channels * p.blocks);
  let source = source_of(c);
  let w = vec4<f32>(f32(weight[c * 4u]), f32(weight[c * 4u + 1u]), f32(weight[c * 4u + 2u]), f32(weight[c * 4u + 3u]));
  let shift_by = f32(bias[c]);
  let first = block * ${BLOCK}u;
  let last = min(first + ${BLOCK}u, p.length);
  enter(b, first, source, (b * p.channels + c) * 4u);`;

/** One invocation walks {@link BLOCK} tokens of one channel with the last three inputs in registers. */
export const convolutionKernel = defineKernel({
  name: 'mamba2_convolution',
  bindings: { x: 'read', weight: 'read', bias: 'read', segments: 'read', state: 'read', y: 'write' },
  params: CONVOLUTION_PARAMS,
  source: ({ has }) =>
    `${window(has('segments'), has('state'))}${linearMain(
      'p.count',
      /* wgsl */ `${INDICES}
  for (var t = first; t < last; t++) {
    let at = p.y_offset + (b * p.length + t) * p.y_stride + c;
    if (padded(b, t)) {
      y[at] = y_t(0.0);
      continue;
    }
    begin(b, t);
    let value = x_value(b, t, source);
    let v = shift_by + w.w * value + w.z * x1 + w.y * x2 + w.x * x3;
    y[at] = y_t(v * sigmoid(v));
    shift(value);
  }`,
    )}`,
});

/**
 * Gradient of the input, and this block's share of those of weight and bias ([batch·block, 5, channels]). Three tokens
 * past the block are looked at for the gradients that they send back into it.
 */
export const convolutionGradientKernel = defineKernel({
  name: 'mamba2_convolution_gradient',
  bindings: {
    x: 'read',
    weight: 'read',
    bias: 'read',
    segments: 'read',
    state: 'read',
    g: 'read',
    dx: 'write',
    shares: 'write',
  },
  params: CONVOLUTION_PARAMS,
  source: ({ has }) =>
    `${window(has('segments'), has('state'))}${linearMain(
      'p.count',
      /* wgsl */ `${INDICES}
  var dw = vec4<f32>();
  var dbias = 0.0;
  // Gradients still to be completed, of this token and of the three before it; d_at is where those go.
  var d1 = 0.0; var d2 = 0.0; var d3 = 0.0;
  var t1 = p.length; var t2 = p.length; var t3 = p.length;
  for (var t = first; t < min(last + 3u, p.length); t++) {
    if (padded(b, t)) {
      if (t < last) { dx[p.y_offset + (b * p.length + t) * p.y_stride + c] = dx_t(0.0); }
      continue;
    }
    begin(b, t);
    let value = x_value(b, t, source);
    let v = shift_by + w.w * value + w.z * x1 + w.y * x2 + w.x * x3;
    let s = sigmoid(v);
    let d = f32(g[(b * p.length + t) * p.channels + c]) * s * (1.0 + v * (1.0 - s));
    if (t < last) {
      dw += d * vec4<f32>(x3, x2, x1, value);
      dbias += d;
    }
    if (depth > 0u) { d1 += w.z * d; }
    if (depth > 1u) { d2 += w.y * d; }
    if (depth > 2u) { d3 += w.x * d; }
    if (t3 < last) { dx[p.y_offset + (b * p.length + t3) * p.y_stride + c] = dx_t(d3); }
    d3 = d2; d2 = d1; d1 = w.w * d;
    t3 = t2; t2 = t1; t1 = t;
    shift(value);
  }
  if (t3 < last) { dx[p.y_offset + (b * p.length + t3) * p.y_stride + c] = dx_t(d3); }
  if (t2 < last) { dx[p.y_offset + (b * p.length + t2) * p.y_stride + c] = dx_t(d2); }
  if (t1 < last) { dx[p.y_offset + (b * p.length + t1) * p.y_stride + c] = dx_t(d1); }
  let share = (b * p.blocks + block) * 5u * p.channels + c;
  shares[share] = dw.x;
  shares[share + p.channels] = dw.y;
  shares[share + 2u * p.channels] = dw.z;
  shares[share + 3u * p.channels] = dw.w;
  shares[share + 4u * p.channels] = dbias;`,
    )}`,
});

/** [5, C] apart into the gradients of weight [C, 1, 4] and bias [C]. */
export const convolutionSharesKernel = defineKernel({
  name: 'mamba2_convolution_shares',
  bindings: { totals: 'read', weight: 'write', bias: 'write' },
  params: { count: 'u32' },
  source: () =>
    linearMain(
      'p.count',
      `  for (var k = 0u; k < 4u; k++) { weight[i * 4u + k] = weight_t(totals[k * p.count + i]); }
  bias[i] = bias_t(totals[4u * p.count + i]);`,
    ),
});

/** Sums the gradients of the channels that read one column: the gradient of the columns where heads were repeated. */
export const foldChannelsKernel = defineKernel({
  name: 'mamba2_fold_channels',
  bindings: { g: 'read', dx: 'write' },
  params: { ...CONVOLUTION_PARAMS, columns: 'u32' },
  source: () =>
    linearMain(
      'p.count',
      /* wgsl */ `
  let column = i % p.columns;
  let token = i / p.columns;
  var sum = 0.0;
  if (column >= 2u * p.key_value) {
    sum = f32(g[token * p.channels + column - 2u * p.key_value + 2u * p.inner]);
  } else {
    let within = column % p.key_value;
    let first = (column / p.key_value) * p.inner + (within / p.head_dim) * p.head_dim * p.group + within % p.head_dim;
    for (var k = 0u; k < p.group; k++) { sum += f32(g[token * p.channels + first + k * p.head_dim]); }
  }
  dx[p.y_offset + token * p.y_stride + column] = dx_t(sum);`,
    ),
});

/**
 * Brings the state up to date with a row: the last four inputs of its last document, oldest first. With `y` bound it is
 * the step for T = 1 and gives the convolution's output too.
 */
export const convolutionStateKernel = defineKernel({
  name: 'mamba2_convolution_state',
  bindings: { x: 'read', weight: 'read', bias: 'read', segments: 'read', state: 'write', y: 'write' },
  params: CONVOLUTION_PARAMS,
  source: ({ has }) =>
    `${segmentHelpers(has('segments'), true)}${SOURCE}${linearMain(
      'p.count',
      /* wgsl */ `
  let c = i % p.channels;
  let b = i / p.channels;
  let source = source_of(c);
  // Back from the end, over at most four tokens of one document; padding does not count.
  var found = vec4<f32>();
  var n = 0u;
  var whole = false;
  var t = p.length;
  while (t > 0u && n < 4u && !whole) {
    t--;
    if (padded(b, t)) { continue; }
    found[3u - n] = f32(x[p.x_offset + (b * p.length + t) * p.x_stride + source]);
    n++;
    whole = starts(b, t);
  }
  var s = vec4<f32>(state[i * 4u], state[i * 4u + 1u], state[i * 4u + 2u], state[i * 4u + 3u]);
  if (whole || n == 4u) {
    s = found;
  } else if (n == 3u) {
    s = vec4<f32>(s.w, found.yzw);
  } else if (n == 2u) {
    s = vec4<f32>(s.zw, found.zw);
  } else if (n == 1u) {
    s = vec4<f32>(s.yzw, found.w);
  }
  state[i * 4u] = s.x;
  state[i * 4u + 1u] = s.y;
  state[i * 4u + 2u] = s.z;
  state[i * 4u + 3u] = s.w;
${
  has('y')
    ? `  let v = f32(bias[c]) + s.x * f32(weight[c * 4u]) + s.y * f32(weight[c * 4u + 1u]) + s.z * f32(weight[c * 4u + 2u]) + s.w * f32(weight[c * 4u + 3u]);
  let e = exp(-abs(v));
  y[i] = y_t(select(v * select(e, 1.0, v >= 0.0) / (1.0 + e), 0.0, n == 0u));`
    : ''
}`,
    )}`,
});
