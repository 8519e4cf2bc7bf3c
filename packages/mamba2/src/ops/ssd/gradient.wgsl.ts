import { defineKernel, linearMain, rowMain } from '@zebra/tensor';
import { CHUNK, GATE_FUNCTIONS } from './gates.wgsl.js';

const EDGE_LANES = 64;

/** ⟨state entering chunk c+1, gradient carried into chunk c from its right⟩ for every head and chunk; 0 for the last chunk. */
export const edgeProductKernel = defineKernel({
  name: 'mamba2_edge_product',
  bindings: { forward: 'read', reverse: 'read', y: 'write' },
  params: { count: 'u32', chunks: 'u32', size: 'u32' },
  workgroup: ({ software }) => (software ? 16 : EDGE_LANES),
  source: ({ software }) =>
    software
      ? linearMain(
          'p.count',
          /* wgsl */ `
  var sum = 0.0;
  if (i % p.chunks + 1u < p.chunks) {
    for (var k = 0u; k < p.size; k++) { sum += forward[(i + 1u) * p.size + k] * reverse[i * p.size + k]; }
  }
  y[i] = sum;`,
        )
      : `var<workgroup> partial: array<f32, ${EDGE_LANES}>;
${rowMain(
  'p.count',
  /* wgsl */ `
  var sum = 0.0;
  if (row % p.chunks + 1u < p.chunks) {
    for (var k = lid; k < p.size; k += ${EDGE_LANES}u) { sum += forward[(row + 1u) * p.size + k] * reverse[row * p.size + k]; }
  }
  partial[lid] = sum;
  workgroupBarrier();
  if (lid == 0u) {
    for (var k = 1u; k < ${EDGE_LANES}u; k++) { sum += partial[k]; }
    y[row] = sum;
  }`,
)}`,
});

/**
 * Inner products over a head's channels for each token, from the exclusive scans `gb` (the part of G·B that later
 * tokens make) and `dc` (the part of dC that earlier tokens make): x: gradient of δ through the input; y: what the token
 * adds to the gradient of every earlier log decay, ⟨C, dc⟩ − δ·⟨x, gb⟩; z: ⟨dy, x⟩ for D; w: ⟨B, C⟩. Then makes `dc`
 * whole with the token's own part, δ·⟨dy, x⟩·B.
 *
 * The token's own part is in both terms of y and is left out of both: where decays vanish it is all there is, and the
 * difference would hold nothing but its rounding.
 */
export const tokenProductKernel = defineKernel({
  name: 'mamba2_token_product',
  bindings: { x: 'read', b: 'read', c: 'read', gb: 'read', dy: 'read', gates: 'read', dc: 'write', out: 'write' },
  params: {
    count: 'u32',
    heads: 'u32',
    rows: 'u32',
    cols: 'u32',
    group: 'u32',
    x_offset: 'u32',
    x_stride: 'u32',
    b_offset: 'u32',
    b_stride: 'u32',
    c_offset: 'u32',
    c_stride: 'u32',
    dc_offset: 'u32',
    dc_stride: 'u32',
  },
  vectors: () => ({ out: 4, gates: 4 }),
  source: () =>
    linearMain(
      'p.count',
      /* wgsl */ `
  let h = i % p.heads;
  let token = i / p.heads;
  let x_at = p.x_offset + token * p.x_stride + (h / p.group) * p.rows;
  let b_at = p.b_offset + token * p.b_stride + (h / p.group) * p.cols;
  let c_at = p.c_offset + token * p.c_stride + h * p.cols;
  let dc_at = p.dc_offset + token * p.dc_stride + h * p.cols;
  let delta = gates[i].x;
  var later = 0.0;
  var own = 0.0;
  for (var k = 0u; k < p.rows; k++) {
    let value = f32(x[x_at + k]);
    later += value * f32(gb[i * p.rows + k]);
    own += value * f32(dy[i * p.rows + k]);
  }
  var earlier = 0.0;
  var product = 0.0;
  for (var k = 0u; k < p.cols; k++) {
    let value = f32(c[c_at + k]);
    let input = f32(b[b_at + k]);
    let part = f32(dc[dc_at + k]);
    earlier += value * part;
    product += value * input;
    dc[dc_at + k] = dc_t(part + delta * own * input);
  }
  out[i] = vec4<f32>(later + product * own, earlier - delta * later, own, product);`,
    ),
});

/**
 * Walks each chunk from its end: the gradient of a token's log decay a is the sum, over this token and all later ones
 * up to the next cut, of the token product y; what lies beyond the chunk comes from its edge product, so that the
 * sum never grows long enough to lose digits. Gives the gradient of dt and each chunk's share of those of dt_bias,
 * A_log and D as [batch, chunk, 3, head].
 */
export const gateGradientKernel = defineKernel({
  name: 'mamba2_gate_gradient',
  bindings: {
    products: 'read',
    edge: 'read',
    gates: 'read',
    dt: 'read',
    dt_bias: 'read',
    a_log: 'read',
    ddt: 'write',
    shares: 'write',
  },
  params: {
    count: 'u32',
    length: 'u32',
    heads: 'u32',
    chunks: 'u32',
    offset: 'u32',
    stride: 'u32',
    out_offset: 'u32',
    out_stride: 'u32',
  },
  vectors: () => ({ products: 4, gates: 4 }),
  source: () =>
    `${GATE_FUNCTIONS}${linearMain(
      'p.count',
      /* wgsl */ `
  let h = i % p.heads;
  let chunk = (i / p.heads) % p.chunks;
  let b = i / (p.heads * p.chunks);
  let rate = -exp(f32(a_log[h]));
  let bias = f32(dt_bias[h]);
  let first = chunk * ${CHUNK}u;
  var carry = edge[(b * p.heads + h) * p.chunks + chunk];
  var shares_here = vec3<f32>();
  var t = min(first + ${CHUNK}u, p.length);
  while (t > first) {
    t--;
    let token = b * p.length + t;
    let at = token * p.heads + h;
    let gate = gates[at];
    let product = products[at];
    carry += product.y;
    // A cut: the decay is 0 whatever a is, and nothing later depends on what came before.
    if (gate.w == f32(t - first)) { carry = 0.0; }
    var raw_gradient = 0.0;
    // δ of padding is 0 by decree, not by dt.
    if (gate.x > 0.0) {
      raw_gradient = (product.x + rate * carry) * sigmoid(f32(dt[p.offset + token * p.stride + h]) + bias);
    }
    ddt[p.out_offset + token * p.out_stride + h] = ddt_t(raw_gradient);
    shares_here += vec3<f32>(raw_gradient, rate * gate.x * carry, product.z);
  }
  let share_at = (b * p.chunks + chunk) * 3u * p.heads + h;
  shares[share_at] = shares_here.x;
  shares[share_at + p.heads] = shares_here.y;
  shares[share_at + 2u * p.heads] = shares_here.z;`,
    )}`,
});

/**
 * Gradient of x or B: δ times the reverse scan's output (for x, where `dy` is bound, plus (δ·⟨B, C⟩ + D)·dy), summed over the
 * heads that share one key/value head.
 */
export const foldHeadsKernel = defineKernel({
  name: 'mamba2_fold_heads',
  bindings: { g: 'read', gates: 'read', products: 'read', dy: 'read', skip: 'read', y: 'write' },
  params: { count: 'u32', heads: 'u32', rows: 'u32', group: 'u32', offset: 'u32', stride: 'u32' },
  vectors: ({ has }): Record<string, 4> => (has('products') ? { gates: 4, products: 4 } : { gates: 4 }),
  source: ({ has }) =>
    linearMain(
      'p.count',
      /* wgsl */ `
  let shared_heads = p.heads / p.group;
  let k = i % p.rows;
  let owner = (i / p.rows) % shared_heads;
  let token = i / (p.rows * shared_heads);
  var sum = 0.0;
  for (var m = 0u; m < p.group; m++) {
    let h = owner * p.group + m;
    let at = token * p.heads + h;
    let delta = gates[at].x;
    sum += delta * f32(g[at * p.rows + k])${has('dy') ? ' + (delta * products[at].w + f32(skip[h])) * f32(dy[at * p.rows + k])' : ''};
  }
  y[p.offset + token * p.stride + owner * p.rows + k] = y_t(sum);`,
    ),
});

/** [3, H] apart into the gradients of dt_bias, A_log and D. */
export const splitSharesKernel = defineKernel({
  name: 'mamba2_split_shares',
  bindings: { totals: 'read', dt_bias: 'write', a_log: 'write', skip: 'write' },
  params: { count: 'u32' },
  source: () =>
    linearMain(
      'p.count',
      `  dt_bias[i] = dt_bias_t(totals[i]);
  a_log[i] = a_log_t(totals[i + p.count]);
  skip[i] = skip_t(totals[i + 2u * p.count]);`,
    ),
});
