import { defineKernel } from '../../device/kernel.js';
import { MatrixUnits, matrixDirectives } from '../../device/matrix-units.wgsl.js';
import { maskFunctions, SIZE_PARAMS } from './mask.wgsl.js';
import {
  accumulate,
  BARRIER,
  commonFunctions,
  declareLines,
  declareSums,
  each,
  FLOATS,
  fetchLines,
  floatPitch,
  HALVES,
  halfPitch,
  keepLines,
  type Lines,
  loadOwn,
  type MatrixConstants,
  places,
  scores,
  shareOf,
  storeScores,
  throughMemory,
  writeHalves,
} from './matrix-tile.wgsl.js';
import { HEADER } from './rows.wgsl.js';

/**
 * Exponent of two by which scores may pass the reference of their row: weights stay below 2⁸, far inside of float16,
 * and the smallest that count, 2⁻²⁴ of the row's first maximum, are still float16's.
 */
const SLACK = 8;

/** Where things lie in workgroup memory, in vectors of 16 bytes. */
function layout(c: MatrixConstants) {
  const { results } = shareOf(c);
  const k = 0;
  const v = k + c.step * halfPitch(c.keySize);
  const s = v + c.step * halfPitch(c.valueSize);
  const weights = s + Math.max(c.rows * floatPitch(c.step), results);
  const columns = weights + c.rows * halfPitch(c.step);
  const end = columns + (c.mask === 'segments' ? (2 * c.step) / FLOATS : 0);
  return { k, v, s, weights, columns, vectors: Math.max(end, c.rows * halfPitch(c.keySize)) };
}

/** Bytes of workgroup memory that a variant takes. */
export function forwardMemory(c: MatrixConstants): number {
  const { threads, parts } = shareOf(c);
  return 16 * layout(c).vectors + 16 + (parts > 1 ? 4 * threads : 0);
}

/**
 * Forward: y and the logarithm of the softmax's denominator. Scores and values are multiplied on the matrix units; the
 * scores go through workgroup memory in between, where an invocation owns a row (or shares it with a few).
 *
 * A matrix cannot be scaled row by row, so the sums of an online softmax are not: weights are taken relative to a
 * reference of their row that is its first maximum, and is raised only when a score passes it by 2^{@link SLACK}. Then,
 * rarely, the sums go through workgroup memory to be scaled (compare Zadouri et al., FlashAttention-4, 2025). The
 * result is the same whatever the reference.
 */
export const matrixForward = defineKernel({
  name: 'attention_matrix',
  bindings: { q: 'read', k: 'read', v: 'read', mask: 'read', y: 'write', lse: 'write' },
  params: SIZE_PARAMS,
  directives: matrixDirectives,
  vectors: () => ({ q: 4 as const, k: 4 as const, v: 4 as const, y: 4 as const }),
  workgroup: ({ constants }) => shareOf(constants as unknown as MatrixConstants).threads,
  source: (variant) => {
    const c = variant.constants as unknown as MatrixConstants;
    const units = new MatrixUnits(c, variant);
    const body = main(c, units);
    const { threads, parts } = shareOf(c);
    return /* wgsl */ `${HEADER}${maskFunctions(c.mask)}${commonFunctions(c.mask)}
${units.declarations()}
var<workgroup> memory: array<vec4<u32>, ${layout(c).vectors}>;
/** Whether the reference of any row was raised, in even and in odd steps. */
var<workgroup> raised: array<u32, 2>;
${c.mask === 'segments' ? 'var<workgroup> before_start: atomic<u32>;' : ''}
${parts > 1 ? `var<workgroup> totals: array<f32, ${threads}>;` : ''}
@compute @workgroup_size(${c.lanes}, ${c.subgroups})
fn main(@builtin(workgroup_id) wid: vec3<u32>, @builtin(num_workgroups) nwg: vec3<u32>, @builtin(local_invocation_id) local: vec3<u32>) {
${body}
}`;
  },
});

function main(c: MatrixConstants, units: MatrixUnits): string {
  const { threads, parts, down, across } = shareOf(c);
  const at = layout(c);
  const q: Lines = {
    name: 'q',
    lines: c.rows,
    size: c.keySize,
    threads,
    address: (t) => `((b * p.tq + ${t}) * p.heads + head) * ${c.keySize / HALVES}u`,
  };
  const keyRow = (j: string) => `((b * p.tk + ${j}) * p.key_heads + key_head)`;
  const k: Lines = { ...q, name: 'k', lines: c.step, address: (j) => `${keyRow(j)} * ${c.keySize / HALVES}u` };
  const v: Lines = { ...k, name: 'v', size: c.valueSize, address: (j) => `${keyRow(j)} * ${c.valueWidth / HALVES}u` };
  const segments = c.mask === 'segments';
  const fetchNext = (n: string) => /* wgsl */ `
    ${fetchLines(v, `start + ${n} * ${c.step}u`, 'keys_end')}
    ${fetchLines(k, `start + (${n} + 1u) * ${c.step}u`, 'keys_end')}
    ${segments ? fetchSegments(c, `start + (${n} + 1u) * ${c.step}u`) : ''}`;
  const keepSegments = (n: string) =>
    segments
      ? `if (lid < ${c.step / FLOATS}u) { memory[${at.columns}u + (${n} & 1u) * ${c.step / FLOATS}u + lid] = bitcast<vec4<u32>>(fetched_segments); }`
      : '';
  return /* wgsl */ `
  let tile = wid.x + wid.y * nwg.x;
  if (tile >= p.count) { return; }
  ${units.begin('local.x', 'nwg.x')}${places(c)}
  let tiles = (p.tq + ${c.rows - 1}u) / ${c.rows}u;
  // Long rows first: the last tile of a head has the most keys. Neighbours work on neighbouring heads, whose rows lie
  // side by side in memory.
  let first = (tiles - 1u - tile / p.heads % tiles) * ${c.rows}u;
  let head = tile % p.heads;
  let b = tile / (tiles * p.heads);
  let key_head = head / p.group;
  let base = key_base();
  let keys_end = base + min(first + ${c.rows}u, p.tq);
  let t = min(first + row, p.tq - 1u);
  let own = base + t;
  let segment = query_segment(b, t);
  ${
    segments
      ? `atomicMax(&before_start, 0xffffffffu - first_key(b, t));
  let start = 0xffffffffu - workgroupUniformLoad(&before_start);`
      : 'let start = 0u;'
  }
  let steps = (keys_end - start + ${c.step - 1}u) / ${c.step}u;
  ${loadOwn(c, units, q, 'first', 'p.tq')}
  ${BARRIER}
  ${declareLines(k)} ${declareLines(v)} ${segments ? 'var fetched_segments: vec4<i32>;' : ''}
  ${fetchLines(k, 'start', 'keys_end')}
  ${segments ? fetchSegments(c, 'start') : ''}
  ${keepLines(k, `${at.k}u`)}
  ${keepSegments('0u')}
  ${c.prefetch ? fetchNext('0u') : ''}
  ${declareSums(c, units, 'sum', c.valueSize)}
  var reference = LOWEST;
  var total = 0.0;
  ${BARRIER}
  for (var n = 0u; n < steps; n++) {
    {
      ${units.each(down, (i) => units.each(across, (j) => units.declare(`s${i}_${j}`)))}
      ${scores(c, units, 's', 'q', `${at.k}u`, c.keySize)}
      ${storeScores(c, units, 's', at.s)}
    }
    ${BARRIER}
    ${c.prefetch ? '' : fetchNext('n')}
    ${keepLines(v, `${at.v}u`)}
    ${keepLines(k, `${at.k}u`)}
    ${keepSegments('(n + 1u)')}
    if (lid == 0u) { raised[(n + 1u) & 1u] = 0u; }
    var shrink = 1.0;
    {
      ${softmax(c, parts, at)}
    }
    // Also the barrier behind everything that was written.
    if (workgroupUniformLoad(&raised[n & 1u]) != 0u) {
      ${throughMemory(c, units, 'sum', c.valueSize, at.s, {
        body: () =>
          each(4, (u) => `memory[at + ${u}u] = bitcast<vec4<u32>>(bitcast<vec4<f32>>(memory[at + ${u}u]) * shrink);`),
        reload: true,
      })}
    }
    ${c.prefetch ? fetchNext('(n + 1u)') : ''}
    ${accumulate(c, units, 'sum', at.weights, `${at.v}u`, c.valueSize)}
  }
  ${
    parts > 1
      ? `totals[lid] = total;
  ${BARRIER}
  total = ${each(parts, (i) => `totals[row + ${i * c.rows}u]`, ' + ')};`
      : ''
  }
  let inverse = 1.0 / total;
  let inside = first + row < p.tq;
  let y_at = ((b * p.tq + t) * p.heads + head) * ${c.valueSize / HALVES}u;
  if (inside && part == 0u) { lse[(b * p.heads + head) * p.tq + t] = (reference + log2(total)) / LOG2E; }
  ${throughMemory(c, units, 'sum', c.valueSize, at.s, {
    body: (column) => `if (inside) { ${writeHalves('y', `y_at + (${column}) / ${HALVES}u`, 'inverse')} }`,
  })}`;
}

/** WGSL that fetches the segments of a step's keys: past the end those of the last, which causality hides. */
function fetchSegments(c: MatrixConstants, first: string): string {
  const of = (e: number) => `key_segment(b, min(j + ${e}u, p.tk - 1u))`;
  return `if (lid < ${c.step / FLOATS}u) { let j = ${first} + lid * ${FLOATS}u; fetched_segments = vec4<i32>(${each(4, of, ', ')}); }`;
}

/** WGSL that turns an invocation's part of a row of scores into weights. */
function softmax(c: MatrixConstants, parts: number, at: ReturnType<typeof layout>): string {
  const pitch = floatPitch(c.step);
  const vectors = c.step / FLOATS;
  const own = vectors / parts;
  const score = (v: string) => `bitcast<vec4<f32>>(memory[${at.s}u + row * ${pitch}u + ${v}]) * factor`;
  const same = (v: string) =>
    c.mask === 'segments'
      ? `bitcast<vec4<i32>>(memory[${at.columns}u + (n & 1u) * ${vectors}u + ${v}]) == vec4<i32>(segment)`
      : 'vec4<bool>(true)';
  const masked = (s: string, v: string) =>
    `${s} = select(vec4<f32>(MASKED), ${s}, four_attend(vec4<u32>(own), four(first_key_of_step + (${v}) * ${FLOATS}u), ${same(v)}));`;
  const mine = (v: number) => (parts === 1 ? `${v}u` : `part * ${own}u + ${v}u`);
  // With several invocations a row each looks for the maximum of the whole row, so that they need not exchange it.
  const wholeRow = /* wgsl */ `
      for (var v = 0u; v < ${vectors}u; v++) {
        var x = ${score('v')};
        if (edge) { ${masked('x', 'v')} }
        greatest = max(greatest, x);
      }`;
  return /* wgsl */ `
      let first_key_of_step = start + n * ${c.step}u;
      // Only steps that reach past the first row's own key hide any from a row, or those of several segments.
      var edge = first_key_of_step + ${c.step - 1}u > base + first;
      ${
        c.mask === 'segments'
          ? `edge = edge || key_run(b, first_key_of_step) < first_key_of_step + ${c.step}u || key_segment(b, first_key_of_step) != segment;`
          : ''
      }
      var greatest = vec4<f32>(MASKED);
      ${parts > 1 ? wholeRow : ''}
      ${each(own, (v) => `var x${v} = ${score(mine(v))};`)}
      if (edge) { ${each(own, (v) => masked(`x${v}`, mine(v)))} }
      ${parts > 1 ? '' : each(own, (v) => `greatest = max(greatest, x${v});`)}
      let most = max(max(greatest.x, greatest.y), max(greatest.z, greatest.w));
      if (most > reference + ${SLACK}.0) {
        // The first keys that a row sees find no sums yet.
        if (reference > LOWEST) { raised[n & 1u] = 1u; }
        shrink = exp2(reference - most);
        total *= shrink;
        reference = most;
      }
      ${each(own, (v) => `x${v} = exp2(x${v} - reference);`)}
      let sums = ${each(own, (v) => `x${v}`, ' + ')};
      total += (sums.x + sums.y) + (sums.z + sums.w);
      let weights_at = ${at.weights}u + row * ${halfPitch(c.step)}u + part * ${own / 2}u;
      ${each(own / 2, (u) => `memory[weights_at + ${u}u] = halves(x${2 * u}, x${2 * u + 1});`)}`;
}
