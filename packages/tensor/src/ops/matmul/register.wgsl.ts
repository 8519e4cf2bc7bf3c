import { defineKernel, linearMain } from '../../device/kernel.js';
import {
  eachCell,
  epilogueOf,
  MATMUL_BINDINGS,
  MATMUL_PARAMS,
  range,
  storeFunction,
  tileOrigin,
} from './common.wgsl.js';

const ROWS = 4;
const COLUMNS = 4;

/** Rows and columns of the tile that one invocation owns. */
export const REGISTER_TILE = [ROWS, COLUMNS] as const;

/** The plain kernel for software adapters without subgroups of a known size: a register tile an invocation, no barriers. */
export const registerMatmul = defineKernel({
  name: 'matmul_register',
  bindings: MATMUL_BINDINGS,
  params: MATMUL_PARAMS,
  workgroup: 64,
  source: (variant) => `
${storeFunction(epilogueOf(variant))}
${linearMain(
  'p.tiles',
  /* wgsl */ `  let tile = i;
${tileOrigin(ROWS, COLUMNS)}
${range(ROWS)
  .map((r) => `  let ia${r} = a_at + min(m0 + ${r}u, p.m - 1u) * p.a_m;`)
  .join('\n')}
${range(COLUMNS)
  .map((j) => `  let ib${j} = b_at + min(n0 + ${j}u, p.n - 1u) * p.b_n;`)
  .join('\n')}
${range(ROWS)
  .map((r) => `  var c${r} = vec4<f32>();`)
  .join('\n')}
  for (var k = k_first; k < k_end; k++) {
    let ka = k * p.a_k;
    let kb = k * p.b_k;
    let x = vec4<f32>(${range(COLUMNS).map((j) => `f32(b[ib${j} + kb])`)});
${range(ROWS)
  .map((r) => `    c${r} += f32(a[ia${r} + ka]) * x;`)
  .join('\n')}
  }
${eachCell(ROWS, COLUMNS, (r, j) => `store(m0 + ${r}u, n0 + ${j}u, c_at, c${r}[${j}]);`)}`,
)}`,
});
