import { defineKernel, linearMain, rowMain } from '@zebra/tensor';
import { CHUNK } from './gates.wgsl.js';
import { SCAN_PARAMS } from './recurrent.wgsl.js';

/** Rows or columns of a state that one workgroup works on. */
export const TILE = 64;
/** Depth of the slabs that pass through workgroup memory. */
const SLAB = 16;
const THREADS = 256;

/** WGSL loop over the elements of a shared array, spread over the workgroup. */
const fill = (count: number, body: string) => `for (var e = lid; e < ${count}u; e += ${THREADS}u) {\n${body}\n}`;

/** Adds the product of the slabs `left` [SLAB, 64] (transposed) and `right` [SLAB, 64] to each thread's 4×4 of `acc`. */
const MULTIPLY = /* wgsl */ `
fn multiply(ty: u32, tx: u32) {
  for (var k = 0u; k < ${SLAB}u; k++) {
    let l = k * 64u + ty * 4u;
    let q = k * 64u + tx * 4u;
    let a = vec4<f32>(left[l], left[l + 1u], left[l + 2u], left[l + 3u]);
    let w = vec4<f32>(right[q], right[q + 1u], right[q + 2u], right[q + 3u]);
    acc[0] += a.x * w;
    acc[1] += a.y * w;
    acc[2] += a.z * w;
    acc[3] += a.w * w;
  }
}`;
// Scalars, not vectors: a store to one component of a vector may touch the whole of it, a race between lanes.
const SHARED = /* wgsl */ `
var<workgroup> left: array<f32, ${SLAB * 64}>;
var<workgroup> right: array<f32, ${SLAB * 64}>;
var<private> acc: array<vec4<f32>, 4>;
${MULTIPLY}`;

/** Decays between places of a chunk, from the sums that the gates hold; 0 across a cut. */
const DECAYS = /* wgsl */ `
fn from_start(gate: vec4<f32>) -> f32 { return select(0.0, exp(min(gate.z + gate.y, 0.0)), gate.w < 0.0); }
fn between(early: vec4<f32>, late: vec4<f32>, at: u32) -> f32 {
  return select(0.0, exp(min((late.z - early.z) + (late.y - early.y), 0.0)), late.w <= f32(at));
}
fn to_end(gate: vec4<f32>, end: vec4<f32>, at: u32) -> f32 { return between(gate, end, at); }
fn pair(mine: vec4<f32>, other: vec4<f32>, token: u32, s: u32) -> f32 {
  if (s == token && p.exclusive == 1u) { return 0.0; }
  if (p.reverse == 1u) { return select(0.0, between(mine, other, token), s >= token); }
  return select(0.0, between(other, mine, s), s <= token) * select(1.0, other.x, p.scaled == 1u);
}`;

const LAST = `min(p.length, (chunk + 1u) * ${CHUNK}u) - 1u`;

/**
 * Stage 1: what each chunk alone adds to the state that leaves it, Σ_t decay·u_t ⊗ v_t; one workgroup a 64×64 tile of
 * a chunk's state.
 */
export const chunkStateKernel = defineKernel({
  name: 'mamba2_chunk_state',
  bindings: { u: 'read', v: 'read', gates: 'read', edges: 'write' },
  params: SCAN_PARAMS,
  vectors: () => ({ gates: 4 }),
  workgroup: THREADS,
  source: () => {
    return `${SHARED}${DECAYS}${rowMain(
      'p.count',
      /* wgsl */ `
  let row_tiles = (p.rows + ${TILE - 1}u) / ${TILE}u;
  let col_tiles = (p.cols + ${TILE - 1}u) / ${TILE}u;
  let i0 = (row % row_tiles) * ${TILE}u;
  let j0 = ((row / row_tiles) % col_tiles) * ${TILE}u;
  let chunk = (row / (row_tiles * col_tiles)) % p.chunks;
  let bh = row / (row_tiles * col_tiles * p.chunks);
  let h = bh % p.heads;
  let b = bh / p.heads;
  let end = gates[(b * p.length + ${LAST}) * p.heads + h];
  let ty = lid / 16u;
  let tx = lid % 16u;
  for (var k0 = 0u; k0 < ${CHUNK}u; k0 += ${SLAB}u) {
    ${fill(
      SLAB * 64,
      `
      let k = e / 64u;
      let c = e % 64u;
      let t = chunk * ${CHUNK}u + k0 + k;
      var a = 0.0;
      var w = 0.0;
      if (t < p.length) {
        let token = b * p.length + t;
        let gate = gates[token * p.heads + h];
        if (i0 + c < p.rows) {
          a = f32(u[p.u_offset + token * p.u_stride + (h / p.u_group) * p.rows + i0 + c]) *
            select(to_end(gate, end, k0 + k), from_start(gate), p.reverse == 1u) * select(1.0, gate.x, p.scaled == 1u);
        }
        if (j0 + c < p.cols) { w = f32(v[p.v_offset + token * p.v_stride + (h / p.v_group) * p.cols + j0 + c]); }
      }
      left[e] = a;
      right[e] = w;`,
    )}
    workgroupBarrier();
    multiply(ty, tx);
    workgroupBarrier();
  }
  for (var m = 0u; m < 4u; m++) {
    let i = i0 + ty * 4u + m;
    for (var n = 0u; n < 4u; n++) {
      let j = j0 + tx * 4u + n;
      if (i < p.rows && j < p.cols) { edges[((bh * p.chunks + chunk) * p.rows + i) * p.cols + j] = acc[m][n]; }
    }
  }`,
    )}`;
  },
});

/** Stage 2: in place, from what each chunk adds to the state that enters each chunk; one invocation a state element. */
export const chunkScanKernel = defineKernel({
  name: 'mamba2_chunk_scan',
  bindings: { gates: 'read', state: 'write', edges: 'write' },
  params: SCAN_PARAMS,
  vectors: () => ({ gates: 4 }),
  source: ({ has }) =>
    `${DECAYS}${linearMain(
      'p.count',
      /* wgsl */ `
  let size = p.rows * p.cols;
  let element = i % size;
  let bh = i / size;
  let h = bh % p.heads;
  let b = bh / p.heads;
  let state_at = bh * size + (element / p.cols) * p.state_row + (element % p.cols) * p.state_column;
  var s = ${has('state') ? 'state[state_at]' : '0.0'};
  for (var step = 0u; step < p.chunks; step++) {
    let chunk = select(step, p.chunks - 1u - step, p.reverse == 1u);
    let end = gates[(b * p.length + ${LAST}) * p.heads + h];
    let at = (bh * p.chunks + chunk) * size + element;
    let added = edges[at];
    edges[at] = s;
    s = s * from_start(end) + added;
  }
  ${has('state') ? 'state[state_at] = s;' : ''}`,
    )}`,
});

/**
 * Stage 3: y of a chunk, from the state that enters it and from the chunk's own tokens through the masked product
 * (r·vᵀ ∘ decay)·u; one workgroup 64 tokens by 64 rows. 14 KiB of workgroup memory.
 */
export const chunkOutputKernel = defineKernel({
  name: 'mamba2_chunk_output',
  bindings: { u: 'read', v: 'read', r: 'read', gates: 'read', skip: 'read', edges: 'read', y: 'write' },
  params: SCAN_PARAMS,
  vectors: () => ({ gates: 4 }),
  workgroup: THREADS,
  source: () => {
    return `${SHARED}${DECAYS}
var<workgroup> gate_of: array<vec4<f32>, ${CHUNK}>;
var<workgroup> r_slab: array<f32, ${CHUNK * (SLAB + 1)}>;
var<workgroup> v_slab: array<f32, ${SLAB * (SLAB + 1)}>;
${rowMain(
  'p.count',
  /* wgsl */ `
  let row_tiles = (p.rows + ${TILE - 1}u) / ${TILE}u;
  let i0 = (row % row_tiles) * ${TILE}u;
  let chunk = (row / row_tiles) % p.chunks;
  let bh = row / (row_tiles * p.chunks);
  let h = bh % p.heads;
  let b = bh / p.heads;
  let t0 = chunk * ${CHUNK}u;
  let tokens = min(p.length - t0, ${CHUNK}u);
  let ty = lid / 16u;
  let tx = lid % 16u;
  let r_at = p.r_offset + (h / p.r_group) * p.cols + (b * p.length + t0) * p.r_stride;
  let v_at = p.v_offset + (h / p.v_group) * p.cols + (b * p.length + t0) * p.v_stride;
  let u_at = p.u_offset + (h / p.u_group) * p.rows + (b * p.length + t0) * p.u_stride;
  if (lid < ${CHUNK}u) { gate_of[lid] = gates[(b * p.length + t0 + min(lid, tokens - 1u)) * p.heads + h]; }
  workgroupBarrier();
  let end = gate_of[tokens - 1u];
  for (var j0 = 0u; j0 < p.cols; j0 += ${SLAB}u) {
    ${fill(
      SLAB * 64,
      `
      let j = j0 + e % ${SLAB}u;
      let k = e / ${SLAB}u;
      let gate = gate_of[k];
      var a = 0.0;
      var w = 0.0;
      if (j < p.cols) {
        if (k < tokens) { a = f32(r[r_at + k * p.r_stride + j]) * select(from_start(gate), to_end(gate, end, k), p.reverse == 1u); }
        if (i0 + k < p.rows) { w = edges[((bh * p.chunks + chunk) * p.rows + i0 + k) * p.cols + j]; }
      }
      let at = (e % ${SLAB}u) * 64u + k;
      left[at] = a;
      right[at] = w;`,
    )}
    workgroupBarrier();
    multiply(ty, tx);
    workgroupBarrier();
  }
  let token = lid / 4u;
  let mine = gate_of[token];
  for (var s0 = 0u; s0 < tokens; s0 += ${SLAB}u) {
    var product = vec4<f32>();
    for (var j0 = 0u; j0 < p.cols; j0 += ${SLAB}u) {
      ${fill(
        SLAB * 64,
        `
        let j = j0 + e % ${SLAB}u;
        let k = e / ${SLAB}u;
        var a = 0.0;
        if (j < p.cols && k < tokens) { a = f32(r[r_at + k * p.r_stride + j]); }
        r_slab[k * ${SLAB + 1}u + e % ${SLAB}u] = a;
        if (k < ${SLAB}u) {
          var w = 0.0;
          if (j < p.cols && s0 + k < tokens) { w = f32(v[v_at + (s0 + k) * p.v_stride + j]); }
          v_slab[k * ${SLAB + 1}u + e % ${SLAB}u] = w;
        }`,
      )}
      workgroupBarrier();
      for (var k = 0u; k < ${SLAB}u; k++) {
        let a = r_slab[token * ${SLAB + 1}u + k];
        let at = (lid % 4u) * ${4 * (SLAB + 1)}u + k;
        product += a * vec4<f32>(v_slab[at], v_slab[at + ${SLAB + 1}u], v_slab[at + ${2 * (SLAB + 1)}u], v_slab[at + ${3 * (SLAB + 1)}u]);
      }
      workgroupBarrier();
    }
    for (var n = 0u; n < 4u; n++) {
      let k = (lid % 4u) * 4u + n;
      let s = s0 + k;
      let other = gate_of[s];
      let at = k * 64u + token;
      left[at] = product[n] * pair(mine, other, token, s);
    }
    ${fill(
      SLAB * 64,
      `
      let s = s0 + e / 64u;
      let i = i0 + e % 64u;
      var w = 0.0;
      if (s < tokens && i < p.rows) { w = f32(u[u_at + s * p.u_stride + i]); }
      right[e] = w;`,
    )}
    workgroupBarrier();
    multiply(ty, tx);
    workgroupBarrier();
  }
  for (var m = 0u; m < 4u; m++) {
    let k = ty * 4u + m;
    for (var n = 0u; n < 4u; n++) {
      let i = i0 + tx * 4u + n;
      if (k < tokens && i < p.rows) {
        y[p.y_offset + (b * p.length + t0 + k) * p.y_stride + h * p.rows + i] =
          y_t(acc[m][n] + select(0.0, f32(skip[h]), p.skips == 1u) * f32(u[u_at + k * p.u_stride + i]));
      }
    }
  }`,
)}`;
  },
});
