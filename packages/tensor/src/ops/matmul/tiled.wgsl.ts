import { defineKernel } from '../../device/kernel.js';
import {
  eachCell,
  epilogueOf,
  MATMUL_BINDINGS,
  MATMUL_PARAMS,
  range,
  storeFunction,
  tileOrigin,
} from './common.wgsl.js';

/** Invocations of a workgroup: 16 × 16, each with a square of the tile. */
const THREADS = 256;
const SIDE = 16;

/**
 * For GPUs: a workgroup of 256 owns a square tile of `tile` (64 or 128) rows and columns; each invocation a square of
 * `tile / 16`, in blocks of 4 × 4. Tiles of A and B go through workgroup memory, k by k, as vectors of four rows of A
 * or columns of B; the next tiles are fetched into registers while the present ones are multiplied.
 */
export const tiledMatmul = defineKernel({
  name: 'matmul_tiled',
  bindings: MATMUL_BINDINGS,
  params: MATMUL_PARAMS,
  workgroup: THREADS,
  source: (variant) => {
    const { constants } = variant;
    const tile = constants['tile'] as number;
    // The tiles of A and B, with their padding, must fit 16 KiB together.
    const depth = tile === 128 ? 8 : 16;
    const quads = tile / 4;
    // One vector of padding a row: without it the lanes that walk along k write to the same bank.
    const row = quads + 1;
    const blocks = tile / (4 * SIDE);
    const fetches = range((quads * depth) / THREADS);
    // Neighbouring invocations walk along whichever direction is contiguous in memory.
    const place = (name: string, f: number) => `  let unit${name}${f} = lid + ${f * THREADS}u;
  let q${name}${f} = select(unit${name}${f} % ${quads}u, unit${name}${f} / ${depth}u, p.${name}_k == 1u);
  let k${name}${f} = select(unit${name}${f} / ${quads}u, unit${name}${f} % ${depth}u, p.${name}_k == 1u);
  var f${name}${f}: vec4<f32>;`;
    const fetch = (k: string) =>
      fetches
        .map(
          (f) => `  fa${f} = fetch_a(a_at, m0 + 4u * qa${f}, ${k} + ka${f}, k_end);
  fb${f} = fetch_b(b_at, n0 + 4u * qb${f}, ${k} + kb${f}, k_end);`,
        )
        .join('\n');
    return /* wgsl */ `
var<workgroup> tile_a: array<vec4<f32>, ${row * depth}>;
var<workgroup> tile_b: array<vec4<f32>, ${row * depth}>;
${storeFunction(epilogueOf(variant))}
${fetchFunction('a', 'm')}
${fetchFunction('b', 'n')}

@compute @workgroup_size(WORKGROUP)
fn main(@builtin(workgroup_id) wid: vec3<u32>, @builtin(num_workgroups) nwg: vec3<u32>, @builtin(local_invocation_index) lid: u32) {
  let tile = wid.x + wid.y * nwg.x;
  if (tile >= p.tiles) { return; }
${tileOrigin(tile, tile)}
  let tx = lid % ${SIDE}u;
  let ty = lid / ${SIDE}u;
${fetches.map((f) => `${place('a', f)}\n${place('b', f)}`).join('\n')}
${eachCell(4 * blocks, blocks, (i, j) => `var c${i}_${j} = vec4<f32>();`)}
${fetch('k_first')}
  for (var k = k_first; k < k_end; k += ${depth}u) {
    workgroupBarrier();
${fetches.map((f) => `    tile_a[ka${f} * ${row}u + qa${f}] = fa${f}; tile_b[kb${f} * ${row}u + qb${f}] = fb${f};`).join('\n')}
    workgroupBarrier();
${fetch(`k + ${depth}u`)}
    for (var d = 0u; d < ${depth}u; d++) {
${range(blocks)
  .map(
    (q) =>
      `      let a${q} = tile_a[d * ${row}u + ty + ${q * SIDE}u]; let b${q} = tile_b[d * ${row}u + tx + ${q * SIDE}u];`,
  )
  .join('\n')}
${eachCell(4 * blocks, blocks, (i, j) => `c${i}_${j} += a${Math.floor(i / 4)}[${i % 4}] * b${j};`)}
    }
  }
${eachCell(4 * blocks, 4 * blocks, (i, j) => `store(m0 + ${Math.floor(i / 4) * 4 * SIDE + (i % 4)}u + 4u * ty, n0 + ${Math.floor(j / 4) * 4 * SIDE + (j % 4)}u + 4u * tx, c_at, c${i}_${Math.floor(j / 4)}[${j % 4}]);`)}
}`;
  },
});

/** WGSL function that loads four rows of A (or columns of B) at one k, zero outside of the matrix. */
function fetchFunction(name: string, side: string): string {
  const element = (i: number) => `
  if (first + ${i}u < p.${side}) { v[${i}] = f32(${name}[at + ${i}u * p.${name}_${side}]); }`;
  return /* wgsl */ `
fn fetch_${name}(start: u32, first: u32, k: u32, k_end: u32) -> vec4<f32> {
  var v = vec4<f32>();
  if (k >= k_end) { return v; }
  let at = start + first * p.${name}_${side} + k * p.${name}_k;${range(4).map(element).join('')}
  return v;
}`;
}
