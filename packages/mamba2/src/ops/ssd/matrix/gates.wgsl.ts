import { defineKernel, rowMain } from '@zebra/tensor';
import { segmentHelpers } from '../../../rows.js';
import { CHUNK, GATE_FUNCTIONS } from '../gates.wgsl.js';

/** Heads that a workgroup takes of a chunk. */
export const HEADS = 16;
const THREADS = 256;
const CELLS = CHUNK * HEADS;

/** WGSL for the place of a workgroup, and for a loop over its cells, one for each token and head that there is. */
const PLACE = /* wgsl */ `
  let blocks = (p.heads + ${HEADS - 1}u) / ${HEADS}u;
  let first_head = row % blocks * ${HEADS}u;
  let chunk = row / blocks % p.chunks;
  let b = row / (blocks * p.chunks);
  let t0 = chunk * ${CHUNK}u;
  let tokens = min(p.length - t0, ${CHUNK}u);`;
const cells = (body: string) => /* wgsl */ `
  for (var e = lid; e < ${CELLS}u; e += ${THREADS}u) {
    let h = first_head + e % ${HEADS}u;
    let t = t0 + e / ${HEADS}u;
    if (h >= p.heads || t >= p.length) { continue; }
    let token = b * p.length + t;
${body}
  }`;

/**
 * The gates that `gatesKernel` describes, for the chunked form: one workgroup some heads of a chunk. Only the sums are
 * made one after the other, in workgroup memory.
 */
export const matrixGatesKernel = defineKernel({
  name: 'mamba2_matrix_gates',
  bindings: { dt: 'read', dt_bias: 'read', a_log: 'read', segments: 'read', gates: 'write' },
  params: { count: 'u32', length: 'u32', heads: 'u32', chunks: 'u32', offset: 'u32', stride: 'u32' },
  vectors: () => ({ gates: 4 }),
  workgroup: THREADS,
  source: (variant) => /* wgsl */ `
${GATE_FUNCTIONS}${segmentHelpers(variant.has('segments'), variant.constants['continued'] === true)}
var<workgroup> cell: array<vec4<f32>, ${CELLS}>;
${rowMain(
  'p.count',
  /* wgsl */ `${PLACE}${cells(/* wgsl */ `
    let rate = -exp(f32(a_log[h]));
    var delta = softplus(f32(dt[p.offset + token * p.stride + h]) + f32(dt_bias[h]));
    var a = rate * delta;
    var cut = 0.0;
    if (padded(b, t)) {
      delta = 0.0;
      a = 0.0;
    } else if (starts(b, t) || a < -17.5) {
      cut = 1.0;
    }
    let eighths = round(a * 8.0) * 0.125;
    cell[e] = vec4<f32>(delta, a - eighths, eighths, cut);`)}
  workgroupBarrier();
  if (lid < ${HEADS}u) {
    var coarse = 0.0;
    var fine = 0.0;
    var cut = -1.0;
    for (var t = 0u; t < tokens; t++) {
      let own = cell[t * ${HEADS}u + lid];
      coarse += own.z;
      fine += own.y;
      if (own.w > 0.0) { coarse = 0.0; fine = 0.0; cut = f32(t); }
      cell[t * ${HEADS}u + lid] = vec4<f32>(own.x, fine, coarse, cut);
    }
  }
  workgroupBarrier();${cells('    gates[token * p.heads + h] = cell[e];')}`,
)}`,
});

/**
 * Gradient of dt, and each chunk's share of those of dt_bias, A_log and D as [batch, chunk, 3, head].
 *
 * A log decay a_t takes what pairs of tokens around t give, and what the state before the chunk and the gradient from
 * behind it do: `products` hold for each token s of the chunk x: the gradient of δ_s through its input; y: what s adds
 * to a_t for all t ≤ s up to the last cut; z: ⟨dy, x⟩; w: what it adds to a_t for all t > s. `through` holds, in shares,
 * what a state that passes the whole chunk adds to all of them. No term is the difference of two that are larger.
 */
export const matrixGateGradientKernel = defineKernel({
  name: 'mamba2_matrix_gate_gradient',
  bindings: {
    products: 'read',
    through: 'read',
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
  workgroup: THREADS,
  source: () => /* wgsl */ `
${GATE_FUNCTIONS}
var<workgroup> cell: array<vec4<f32>, ${CELLS}>;
var<workgroup> passing: array<f32, ${CELLS}>;
const CUT = 3e38;
${rowMain(
  'p.count',
  /* wgsl */ `${PLACE}${cells(/* wgsl */ `
    let product = products[token * p.heads + h];
    let cut = gates[token * p.heads + h].w == f32(t - t0);
    cell[e] = product;
    // A state that passes the chunk passes no cut: the share is 0 then, and its place free to mark the cut.
    passing[e] = select(through[token * p.heads + h], CUT, cut);`)}
  workgroupBarrier();
  if (lid < ${HEADS}u) {
    var carry = 0.0;
    var whole = 0.0;
    for (var k = 0u; k < tokens; k++) {
      let at = (tokens - 1u - k) * ${HEADS}u + lid;
      let own = cell[at];
      carry += own.y;
      if (passing[at] == CUT) { carry = 0.0; } else { whole += passing[at]; }
      cell[at] = vec4<f32>(own.x, carry, own.z, own.w);
    }
    for (var t = 0u; t < tokens; t++) {
      let at = t * ${HEADS}u + lid;
      let own = cell[at];
      cell[at] = vec4<f32>(own.x, select(own.y + whole, 0.0, passing[at] == CUT), own.z, own.w);
      whole += own.w;
    }
  }
  workgroupBarrier();${cells(/* wgsl */ `
    let own = cell[e];
    let rate = -exp(f32(a_log[h]));
    let delta = gates[token * p.heads + h].x;
    var raw_gradient = 0.0;
    // δ of padding is 0 by decree, not by dt.
    if (delta > 0.0) {
      raw_gradient = (own.x + rate * own.y) * sigmoid(f32(dt[p.offset + token * p.stride + h]) + f32(dt_bias[h]));
    }
    ddt[p.out_offset + token * p.out_stride + h] = ddt_t(raw_gradient);
    cell[e] = vec4<f32>(raw_gradient, rate * delta * own.y, own.z, 0.0);`)}
  workgroupBarrier();
  if (lid < ${HEADS}u && first_head + lid < p.heads) {
    var sums = vec4<f32>();
    for (var t = 0u; t < tokens; t++) { sums += cell[t * ${HEADS}u + lid]; }
    let share_at = (b * p.chunks + chunk) * 3u * p.heads + first_head + lid;
    shares[share_at] = sums.x;
    shares[share_at + p.heads] = sums.y;
    shares[share_at + 2u * p.heads] = sums.z;
  }`,
)}`,
});
