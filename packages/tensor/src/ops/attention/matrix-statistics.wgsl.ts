import { defineKernel, rowMain } from '../../device/kernel.js';
import { SIZE_PARAMS } from './mask.wgsl.js';
import { each, HALVES } from './matrix-tile.wgsl.js';
import { HEADER } from './rows.wgsl.js';

const WORKGROUP = 256;

/** Rows of y that a workgroup takes. */
export const statisticsRows = (valueSize: number): number => Math.floor((WORKGROUP * HALVES) / valueSize);

/**
 * For each (batch, head, query): the pair (lse · log2 e, Σ dO · O) that the gradient kernels want. Like
 * `statisticsKernel`, for float16 rows that are read in vectors of 16 bytes, neighbours by neighbouring invocations.
 */
export const matrixStatistics = defineKernel({
  name: 'attention_matrix_statistics',
  bindings: { y: 'read', g: 'read', lse: 'read', stats: 'write' },
  params: SIZE_PARAMS,
  vectors: () => ({ y: 4 as const, g: 4 as const, stats: 2 as const }),
  workgroup: WORKGROUP,
  source: ({ constants }) => {
    const valueSize = constants['valueSize'] as number;
    const width = valueSize / HALVES;
    const rows = statisticsRows(valueSize);
    return /* wgsl */ `${HEADER}
var<workgroup> sums: array<f32, ${WORKGROUP}>;
${rowMain(
  'p.count',
  /* wgsl */ `
  let end = p.batch * p.tq * p.heads;
  let first = row * ${rows}u;
  if (lid < ${rows * width}u && first + lid / ${width}u < end) {
    let a = y[first * ${width}u + lid];
    let b = g[first * ${width}u + lid];
    var total = 0.0;
    ${each(4, (i) => `total += dot(unpack2x16float(a[${i}]), unpack2x16float(b[${i}]));`)}
    sums[lid] = total;
  }
  workgroupBarrier();
  let index = first + lid;
  if (lid < ${rows}u && index < end) {
    var total = 0.0;
    for (var i = 0u; i < ${width}u; i++) { total += sums[lid * ${width}u + i]; }
    let to = (index / (p.heads * p.tq) * p.heads + index % p.heads) * p.tq + index / p.heads % p.tq;
    stats[to] = vec2<f32>(lse[to] * LOG2E, total);
  }`,
)}`;
  },
});
