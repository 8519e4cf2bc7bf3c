import { defineKernel } from '../../device/kernel.js';
import {
  eachCell,
  epilogueOf,
  MATMUL_BINDINGS,
  MATMUL_PARAMS,
  range,
  tileOrigin,
  writeFunction,
} from './common.wgsl.js';

/** Output columns of each invocation. */
const COLUMNS = 4;

/** Rows and columns of the tile that one subgroup of `lanes` owns. */
export function subgroupTile(rows: number, lanes: number): readonly [number, number] {
  return [rows, COLUMNS * lanes];
}

/**
 * For adapters that run on CPU cores: no barriers, no workgroup memory; a workgroup is one subgroup and owns a tile
 * of `rows` × (4 · lanes).
 *
 * What costs there is loading, not multiplying: a vector load is a gather that the driver takes apart lane by lane.
 * So A is loaded once a subgroup, spread over its lanes (`lanes / step` rows by `step` values of k), and each value
 * reaches all lanes by a subgroup operation with a constant lane, which is one permute instruction.
 */
export const subgroupMatmul = defineKernel({
  name: 'matmul_subgroup',
  bindings: MATMUL_BINDINGS,
  params: MATMUL_PARAMS,
  workgroup: ({ constants }) => constants['lanes'] as number,
  source: (variant) => {
    const { constants } = variant;
    const lanes = constants['lanes'] as number;
    const rows = constants['rows'] as number;
    const step = Math.max(constants['step'] as number, lanes / rows);
    const share = lanes === 4 ? 'subgroupBroadcast' : 'subgroupShuffle';
    const rowsOfLoad = lanes / step;
    const loads = range(rows / rowsOfLoad);
    const inBounds = (k: number | string) => (step > 1 ? `min(k + ${k}, k_end - 1u)` : `(k + ${k})`);
    return /* wgsl */ `
${writeFunction(epilogueOf(variant))}

@compute @workgroup_size(WORKGROUP) @diagnostic(off, subgroup_uniformity)
fn main(@builtin(workgroup_id) wid: vec3<u32>, @builtin(num_workgroups) nwg: vec3<u32>, @builtin(local_invocation_index) lid: u32) {
  let tile = wid.x + wid.y * nwg.x;
  if (tile >= p.tiles) { return; }
${tileOrigin(rows, COLUMNS * lanes)}
  let n = n0 + lid;
  let a_row = lid / ${step}u;
  let a_step = lid % ${step}u;
${loads.map((v) => `  let ia${v} = a_at + min(m0 + ${v * rowsOfLoad}u + a_row, p.m - 1u) * p.a_m;`).join('\n')}
${range(COLUMNS)
  .map((j) => `  let ib${j} = b_at + min(n + ${j * lanes}u, p.n - 1u) * p.b_n;`)
  .join('\n')}
${eachCell(rows, COLUMNS, (i, j) => `var c${i}_${j} = 0.0;`)}
  for (var k = k_first; k < k_end; k += ${step}u) {
    let ka = ${inBounds('a_step')} * p.a_k;
${loads
  .map((v) => {
    const load = `f32(a[ia${v} + ka])`;
    return `    let a${v} = ${step > 1 ? `select(0.0, ${load}, k + a_step < k_end)` : load};`;
  })
  .join('\n')}
${range(step)
  .map((s) => {
    const b = range(COLUMNS).map((j) => `let b${j} = f32(b[ib${j} + kb]);`);
    const cells = range(rows).map((i) => {
      const value = `${share}(a${Math.floor(i / rowsOfLoad)}, ${(i % rowsOfLoad) * step + s}u)`;
      const products = range(COLUMNS).map((j) => `c${i}_${j} += x${i} * b${j};`);
      return `let x${i} = ${value}; ${products.join(' ')}`;
    });
    return `    {\n    let kb = ${inBounds(`${s}u`)} * p.b_k;\n    ${b.join(' ')}\n    ${cells.join('\n    ')}\n    }`;
  })
  .join('\n')}
  }
${range(COLUMNS)
  .map((j) => `  let in${j} = n + ${j * lanes}u < p.n; let ic${j} = c_at + (n + ${j * lanes}u) * p.c_n;`)
  .join('\n')}
${range(rows)
  .map((i) => {
    const cells = range(COLUMNS).map(
      (j) => `if (in${j}) { write(row + ic${j}, m0 + ${i}u, n + ${j * lanes}u, c${i}_${j}); }`,
    );
    return `  if (m0 + ${i}u < p.m) { let row = (m0 + ${i}u) * p.c_m; ${cells.join(' ')} }`;
  })
  .join('\n')}
}`;
  },
});
