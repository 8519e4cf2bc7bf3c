import { defineKernel } from '../../device/kernel.js';
import { epilogueOf, MATMUL_BINDINGS, MATMUL_PARAMS, range, storeFunction, tileOrigin } from './common.wgsl.js';

const THREADS = 128;
const FAST = 32;
const SLOW = THREADS / FAST;

/** Rows and columns of the tile that one workgroup owns. */
export function matvecTile(rows: number, alongK: boolean): readonly [number, number] {
  return [rows, alongK ? SLOW : FAST];
}

/**
 * For GPUs, at most 8 rows of A (decoding): what matters is reading B once, at full width. Neighbouring invocations
 * walk along the direction in which B is contiguous: `alongK`, 32 of them share a column, else they have a column
 * each and 4 rows of invocations share k. The partial sums meet in workgroup memory, in a fixed order and after one
 * barrier (software adapters, which only test this, compile barriers slowly).
 */
export const matvecMatmul = defineKernel({
  name: 'matmul_matvec',
  bindings: MATMUL_BINDINGS,
  params: MATMUL_PARAMS,
  vectors: ({ constants }) => (constants['vector'] === true ? { a: 4, b: 4 } : ({} as Record<string, never>)),
  workgroup: THREADS,
  source: (variant) => {
    const { constants } = variant;
    const rows = constants['rows'] as number;
    const alongK = constants['alongK'] === true;
    const vector = constants['vector'] === true;
    const [kLanes, columns] = alongK ? [FAST, SLOW] : [SLOW, FAST];
    const load = (name: string, at: string) => (vector ? `vec4<f32>(${name}[${at}])` : `f32(${name}[${at}])`);
    return /* wgsl */ `
var<workgroup> partial: array<f32, ${THREADS * rows}>;
${storeFunction(epilogueOf(variant))}

@compute @workgroup_size(WORKGROUP)
fn main(@builtin(workgroup_id) wid: vec3<u32>, @builtin(num_workgroups) nwg: vec3<u32>, @builtin(local_invocation_index) lid: u32) {
  let tile = wid.x + wid.y * nwg.x;
  if (tile >= p.tiles) { return; }
${tileOrigin(rows, columns)}
  let fast = lid % ${FAST}u;
  let slow = lid / ${FAST}u;
  let lane = ${alongK ? 'fast' : 'slow'};
  let n = n0 + ${alongK ? 'slow' : 'fast'};
  let ib = b_at + min(n, p.n - 1u) * p.b_n;
${range(rows)
  .map((r) => `  let ia${r} = a_at + min(m0 + ${r}u, p.m - 1u) * p.a_m; var sum${r} = 0.0;`)
  .join('\n')}
  for (var k = k_first + lane; k < k_end; k += ${kLanes}u) {
    let x = ${load('b', 'ib + k * p.b_k')};
${range(rows)
  .map((r) => {
    const value = load('a', `ia${r} + k * p.a_k`);
    return `    sum${r} += ${vector ? `dot(${value}, x)` : `${value} * x`};`;
  })
  .join('\n')}
  }
${range(rows)
  .map((r) => `  partial[${r * THREADS}u + lid] = sum${r};`)
  .join('\n')}
  workgroupBarrier();
  for (var o = lid; o < ${rows * columns}u; o += WORKGROUP) {
    let row = o / ${columns}u;
    let column = o % ${columns}u;
    var total = 0.0;
    for (var step = 0u; step < ${kLanes}u; step++) {
      // Each output starts at another lane, so that they do not all read one bank.
      let lane_of = (step + o) % ${kLanes}u;
      total += partial[row * ${THREADS}u + ${alongK ? `column * ${FAST}u + lane_of` : `lane_of * ${FAST}u + column`}];
    }
    store(m0 + row, n0 + column, c_at, total);
  }
}`;
  },
});
