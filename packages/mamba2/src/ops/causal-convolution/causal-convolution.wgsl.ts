import { defineKernel, type KernelVariant, linearMain } from '@zebra/tensor';
import { segmentHelpers } from '../../rows.js';

/** Tokens that one invocation walks; on a GPU it fetches {@link AHEAD} of them at once. */
export const blockOf = (software: boolean) => (software ? 16 : 32);
const AHEAD = 4;

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

/** Channels of an invocation: 1, or 4 as one vector (constant `vector`); places and strides then count vectors. */
const widthOf = ({ constants }: KernelVariant) => (constants['vector'] === true ? 4 : 1);

const vectors =
  (...names: string[]) =>
  ({ constants }: KernelVariant): Record<string, 4> =>
    Object.fromEntries(constants['vector'] === true ? names.map((name) => [name, 4 as const]) : []);

/**
 * WGSL for the window of the last three inputs and the taps, of type V, one or four channels. `x1` is the newest of the
 * three, `w3` the weight of the token's own input.
 */
function window(variant: KernelVariant): string {
  const width = widthOf(variant);
  const state = variant.has('state');
  const V = width === 4 ? 'vec4<f32>' : 'f32';
  // Weights and states of neighbouring channels lie four apart.
  const across = (binding: string, at: string, tap: number) =>
    `V(${Array.from({ length: width }, (_, k) => `f32(${binding}[${at} + ${4 * k + tap}u])`).join(', ')})`;
  const held = (tap: number) => across('state', 'state_at', tap);
  return /* wgsl */ `
alias V = ${V};
const WIDTH = ${width}u;
${segmentHelpers(variant.has('segments'), state)}
${SOURCE}
var<private> x1: V;
var<private> x2: V;
var<private> x3: V;
var<private> w0: V;
var<private> w1: V;
var<private> w2: V;
var<private> w3: V;
fn take_weights(c: u32) {
${[0, 1, 2, 3].map((tap) => `  w${tap} = ${across('weight', 'c * 4u * WIDTH', tap)};`).join('\n')}
}
// How many of the three are of this token's document.
var<private> depth: u32;
fn x_value(b: u32, t: u32, c: u32) -> V { return V(x[p.x_offset + (b * p.length + t) * p.x_stride + c]); }
fn enter(b: u32, t: u32, c: u32, state_at: u32) {
  x1 = V(); x2 = V(); x3 = V(); depth = 0u;
  let origin = max(t, 3u) - 3u;
${state ? `  if (leading(b, origin)) { x1 = ${held(3)}; x2 = ${held(2)}; x3 = ${held(1)}; }` : ''}
  for (var i = origin; i < t; i++) {
    if (padded(b, i)) { continue; }
    begin(b, i);
    shift(x_value(b, i, c));
  }
}
fn begin(b: u32, t: u32) {
  if (starts(b, t)) { x1 = V(); x2 = V(); x3 = V(); depth = 0u; }
}
fn shift(value: V) { x3 = x2; x2 = x1; x1 = value; depth = min(depth + 1u, 3u); }
fn sigmoid(v: V) -> V {
  let t = exp(-abs(v));
  return select(t, V(1.0), v >= V(0.0)) / (1.0 + t);
}`;
}

const indices = ({ software }: KernelVariant) => /* wgsl */ `
  let channels = p.channels / WIDTH;
  let c = i % channels;
  let block = (i / channels) % p.blocks;
  let b = i / (channels * p.blocks);
  let source = source_of(c * WIDTH) / WIDTH;
  take_weights(c);
  let shift_by = V(bias[c]);
  let first = block * ${blockOf(software)}u;
  let last = min(first + ${blockOf(software)}u, p.length);
  enter(b, first, source, (b * p.channels + c * WIDTH) * 4u);`;

/**
 * WGSL that walks the tokens from `first` to before `end`. `body` sees `t` and the fetched `values`, one after the other
 * on CPU adapters, some ahead on GPUs: no fetch may move past a write of its own accord.
 */
function eachToken({ software }: KernelVariant, end: string, values: Record<string, string>, body: string): string {
  const names = Object.keys(values);
  if (software) {
    const fetched = names.map((name) => `let ${name} = ${values[name]};`).join(' ');
    return `  for (var t = first; t < ${end}; t++) {\n    ${fetched}${body}\n  }`;
  }
  const steps = Array.from({ length: AHEAD }, (_, k) => k);
  const fetch = steps.map(
    (k) => `    var ${names.map((name) => `${name}_${k} = V();`).join(' var ')}
    { let t = min(base + ${k}u, ${end} - 1u); ${names.map((name) => `${name}_${k} = ${values[name]};`).join(' ')} }`,
  );
  const queued = steps.map(
    (k) => `${k === 0 ? '' : 'else '}if (k == ${k}u) { ${names.map((name) => `${name} = ${name}_${k};`).join(' ')} }`,
  );
  return /* wgsl */ `  for (var base = first; base < ${end}; base += ${AHEAD}u) {
${fetch.join('\n')}
    for (var k = 0u; k < ${AHEAD}u; k++) {
      let t = base + k;
      if (t >= ${end}) { break; }
      var ${names.map((name) => `${name} = V();`).join(' var ')}
      ${queued.join(' ')}
${body}
    }
  }`;
}

/** One invocation walks some tokens of its channels with the last three inputs in registers. */
export const convolutionKernel = defineKernel({
  name: 'mamba2_convolution',
  bindings: { x: 'read', weight: 'read', bias: 'read', segments: 'read', state: 'read', y: 'write' },
  params: CONVOLUTION_PARAMS,
  vectors: vectors('x', 'bias', 'y'),
  source: (variant) =>
    `${window(variant)}${linearMain(
      'p.count',
      /* wgsl */ `${indices(variant)}
${eachToken(
  variant,
  'last',
  { value: 'x_value(b, t, source)' },
  /* wgsl */ `
    let at = p.y_offset + (b * p.length + t) * p.y_stride + c;
    if (padded(b, t)) {
      y[at] = y_t();
      continue;
    }
    begin(b, t);
    let v = shift_by + w3 * value + w2 * x1 + w1 * x2 + w0 * x3;
    y[at] = y_t(v * sigmoid(v));
    shift(value);`,
)}`,
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
  vectors: vectors('x', 'bias', 'g', 'dx', 'shares'),
  source: (variant) =>
    `${window(variant)}${linearMain(
      'p.count',
      /* wgsl */ `${indices(variant)}
  var dw0 = V(); var dw1 = V(); var dw2 = V(); var dw3 = V();
  var dbias = V();
  // Gradients still to be completed, of this token and of the three before it; d_at is where those go.
  var d1 = V(); var d2 = V(); var d3 = V();
  var t1 = p.length; var t2 = p.length; var t3 = p.length;
  let end = min(last + 3u, p.length);
${eachToken(
  variant,
  'end',
  { value: 'x_value(b, t, source)', up: 'V(g[(b * p.length + t) * channels + c])' },
  /* wgsl */ `
    if (padded(b, t)) {
      if (t < last) { dx[p.y_offset + (b * p.length + t) * p.y_stride + c] = dx_t(); }
      continue;
    }
    begin(b, t);
    let v = shift_by + w3 * value + w2 * x1 + w1 * x2 + w0 * x3;
    let s = sigmoid(v);
    let d = up * s * (1.0 + v * (1.0 - s));
    if (t < last) {
      dw0 += d * x3;
      dw1 += d * x2;
      dw2 += d * x1;
      dw3 += d * value;
      dbias += d;
    }
    if (depth > 0u) { d1 += w2 * d; }
    if (depth > 1u) { d2 += w1 * d; }
    if (depth > 2u) { d3 += w0 * d; }
    if (t3 < last) { dx[p.y_offset + (b * p.length + t3) * p.y_stride + c] = dx_t(d3); }
    d3 = d2; d2 = d1; d1 = w3 * d;
    t3 = t2; t2 = t1; t1 = t;
    shift(value);`,
)}
  if (t3 < last) { dx[p.y_offset + (b * p.length + t3) * p.y_stride + c] = dx_t(d3); }
  if (t2 < last) { dx[p.y_offset + (b * p.length + t2) * p.y_stride + c] = dx_t(d2); }
  if (t1 < last) { dx[p.y_offset + (b * p.length + t1) * p.y_stride + c] = dx_t(d1); }
  let share = (b * p.blocks + block) * 5u * channels + c;
  shares[share] = dw0;
  shares[share + channels] = dw1;
  shares[share + 2u * channels] = dw2;
  shares[share + 3u * channels] = dw3;
  shares[share + 4u * channels] = dbias;`,
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
