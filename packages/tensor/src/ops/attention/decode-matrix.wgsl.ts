import { defineKernel, type KernelVariant } from '../../device/kernel.js';
import {
  type MatrixArray,
  type MatrixUnitSizes,
  MatrixUnits,
  matrixDirectives,
} from '../../device/matrix-units.wgsl.js';
import { DECODE_BINDINGS, DECODE_PARAMS, PART_KEYS } from './decode.wgsl.js';
import { directMaskFunctions } from './mask.wgsl.js';
import { HEADER } from './rows.wgsl.js';

/** Subgroups of a workgroup. */
const SUBGROUPS = 4;

/** Side of a matrix. */
export const MATRIX_SIDE = 16;

/** Compile-time constants of {@link decodeMatrix}. */
export interface DecodeMatrixConstants extends MatrixUnitSizes {
  /** Query heads that a workgroup owns, 16 or 32, and keys that it works on at a time. */
  readonly tileHeads: number;
  readonly tileKeys: number;
  /** Elements of a row, and those in front that are its value: multiples of 16. */
  readonly keySize: number;
  readonly valueSize: number;
}

const constantsOf = (variant: Pick<KernelVariant, 'constants'>) =>
  variant.constants as unknown as DecodeMatrixConstants;
const range = (n: number) => Array.from({ length: n }, (_, i) => i);

/** Where things lie in workgroup memory, in vectors of 16 bytes; a vector of padding a line keeps them off one bank. */
function layout({ tileHeads, tileKeys, keySize }: DecodeMatrixConstants) {
  const pitch = keySize / 8 + 1;
  const weights = tileKeys / 8 + 1;
  const keys = tileHeads * pitch;
  const probabilities = keys + tileKeys * pitch;
  return { pitch, weights, keys, probabilities, halves: probabilities + tileHeads * weights, scores: tileKeys / 4 + 1 };
}

/** Bytes of workgroup memory that a variant takes. */
export function decodeMatrixMemory(c: DecodeMatrixConstants): number {
  const { halves, scores } = layout(c);
  return 16 * (halves + c.tileHeads * scores) + 4 * (SUBGROUPS * c.lanes + c.tileHeads + 2);
}

/**
 * How far a score may pass the one that the softmax is taken against, in powers of two, before that is raised: sums of
 * a matrix can only be rescaled by way of memory, so that is done seldom. 2⁸ is well inside of what float16 holds.
 */
const SLACK = 8;

const HALVES: MatrixArray = { name: 'memory', type: 'vec4<u32>' };
const SCORES: MatrixArray = { name: 'scores', type: 'vec4<f32>' };
const PARTIAL: MatrixArray = { name: 'partial', type: 'f32' };

/**
 * Decoding of many query heads that share rows which are keys and values at once (the absorbed form of latent
 * attention), on matrix units: a workgroup owns 16 or 32 heads of a token and a part of the keys, so that every cached
 * row is read once. Heads that fill up the last tile are copies of the last one, and nobody reads what comes of them.
 * float16 comes as `vec4<u32>`.
 */
export const decodeMatrix = defineKernel({
  name: 'attention_decode_matrix',
  bindings: DECODE_BINDINGS,
  params: DECODE_PARAMS,
  directives: matrixDirectives,
  workgroup: ({ constants }) => SUBGROUPS * (constants['lanes'] as number),
  vectors: () => ({ q: 4, k: 4, totals: 2 }),
  source: (variant) => {
    const c = constantsOf(variant);
    const { tileHeads, tileKeys, keySize, valueSize, lanes } = c;
    const at = layout(c);
    const units = new MatrixUnits(c, variant);
    const threads = SUBGROUPS * lanes;
    const row = keySize / 8;
    const fetches = range(Math.ceil((tileKeys * row) / threads));
    const rowBlocks = range(tileHeads / MATRIX_SIDE);
    const keyBlocks = tileKeys / MATRIX_SIDE;
    // Blocks of the scores: a subgroup owns one column of them, or of half as many columns one block.
    const scoreRows = keyBlocks === SUBGROUPS ? rowBlocks : [0];
    // Where they are not as many for each subgroup, the last ones multiply what follows the value, for nothing.
    const ownColumns = range(Math.ceil(valueSize / MATRIX_SIDE / SUBGROUPS));
    const even = valueSize % (MATRIX_SIDE * SUBGROUPS) === 0;
    const threadsOfRow = threads / tileHeads;
    const keysOfThread = tileKeys / threadsOfRow;
    const quads = range(keysOfThread / 4);
    const sums = ownColumns.flatMap((j) => rowBlocks.map((i) => ({ name: `o${i}_${j}`, i, j })));
    const fetch = fetches
      .map(
        (f) => `{
      let index = lid + ${f * threads}u;
      let j = next + index / ${row}u;
      fetched${f} = vec4<u32>();
      if (index < ${tileKeys * row}u && j < end) { fetched${f} = k[((b * p.tk + j) * p.key_heads + key_head) * ${row}u + index % ${row}u]; }
    }`,
      )
      .join('\n    ');
    const keep = fetches
      .map(
        (f) => `{
      let index = lid + ${f * threads}u;
      if (index < ${tileKeys * row}u) { memory[${at.keys}u + index / ${row}u * ${at.pitch}u + index % ${row}u] = fetched${f}; }
    }`,
      )
      .join('\n    ');
    const scores = scoreRows
      .map((i) => {
        const first = keyBlocks === SUBGROUPS ? `${i * MATRIX_SIDE}u` : `score_row`;
        // Written out: with robust access a load in a loop is a branch, and the kernel took twice as long.
        const steps = units.each(
          row / 2,
          (d) => `{
      ${units.load(`q${i}`, 'Left', 'row_major', HALVES, `${first} * ${at.pitch}u + ${2 * d}u`, `${at.pitch}u`)}
      ${units.load(`k${i}`, 'Right', 'col_major', HALVES, `${at.keys}u + score_key * ${at.pitch}u + ${2 * d}u`, `${at.pitch}u`)}
      ${units.multiply(`s${i}`, `q${i}`, `k${i}`)}
    }`,
        );
        return `${units.clear(`s${i}`)}
    ${steps}
    ${units.store(`s${i}`, SCORES, `${first} * ${at.scores}u + score_key / 4u`, `${at.scores}u`)}`;
      })
      .join('\n    ');
    const rescale = sums
      .map(
        ({ name, i }) => `
      ${units.store(name, SCORES, `local.y * ${MATRIX_SIDE * 4}u`, '4u')}
      workgroupBarrier();
      for (var e = local.x; e < ${MATRIX_SIDE * 4}u; e += ${lanes}u) {
        scores[local.y * ${MATRIX_SIDE * 4}u + e] *= factors[${i * MATRIX_SIDE}u + e / 4u];
      }
      workgroupBarrier();
      ${units.reload(name, 'Result', 'row_major', SCORES, `local.y * ${MATRIX_SIDE * 4}u`, '4u')}
      workgroupBarrier();`,
      )
      .join('');
    const values = units.each(
      keyBlocks,
      (d) => `{
      ${rowBlocks.map((i) => units.load(`p${i}`, 'Left', 'row_major', HALVES, `${at.probabilities + 2 * d}u + ${i * MATRIX_SIDE}u * ${at.weights}u`, `${at.weights}u`)).join('\n      ')}
      ${ownColumns
        .map((j) => {
          const place = `${at.keys + d * MATRIX_SIDE * at.pitch}u + (local.y * ${ownColumns.length}u + ${j}u) * 2u`;
          return [
            units.load(`v${j}`, 'Right', 'row_major', HALVES, place, `${at.pitch}u`),
            ...rowBlocks.map((i) => units.multiply(`o${i}_${j}`, `p${i}`, `v${j}`)),
          ].join('\n      ');
        })
        .join('\n      ')}
    }`,
    );
    // The invocations that share a row are neighbours: in one subgroup on real units.
    const highest = variant.matrixEmulated
      ? /* wgsl */ `maxima[lid] = most;
    workgroupBarrier();
    for (var n = 0u; n < ${threadsOfRow}u; n++) { most = max(most, maxima[row * ${threadsOfRow}u + n]); }`
      : range(Math.log2(threadsOfRow))
          .map((n) => `most = max(most, subgroupShuffleXor(most, ${2 ** n}u));`)
          .join('\n    ');
    const body = /* wgsl */ `
  let index = wid.x + wid.y * nwg.x;
  if (index >= p.count) { return; }
  ${units.begin('local.x', 'nwg.x')}
  let lid = local.y * ${lanes}u + local.x;
  let part = index % p.parts;
  let head = index / p.parts % (p.head_rows / ${tileHeads}u) * ${tileHeads}u;
  let token = index / (p.parts * (p.head_rows / ${tileHeads}u));
  let t = token % p.tq;
  let b = token / p.tq;
  let key_head = head / p.group;
  ${PART_KEYS}
  let row = lid / ${threadsOfRow}u;
  let first_key = lid % ${threadsOfRow}u * ${keysOfThread}u;
  let score_key = local.y % ${keyBlocks}u * ${MATRIX_SIDE}u;
  ${keyBlocks === SUBGROUPS ? '' : `let score_row = local.y / ${keyBlocks}u * ${MATRIX_SIDE}u;`}
  for (var n = lid; n < ${tileHeads * row}u; n += ${threads}u) {
    let own_head = min(head + n / ${row}u, p.heads - 1u);
    memory[n / ${row}u * ${at.pitch}u + n % ${row}u] = q[(token * p.heads + own_head) * ${row}u + n % ${row}u];
  }
  ${scoreRows.map((i) => units.declare(`s${i}`)).join(' ')}
  ${sums.map(({ name }) => units.declare(name)).join(' ')}
  ${fetches.map((f) => `var fetched${f}: vec4<u32>;`).join(' ')}
  var top = LOWEST;
  var total = 0.0;
  var next = start;
  ${fetch}
  for (var first = start; first < end; first += ${tileKeys}u) {
    // What is in memory has been used.
    workgroupBarrier();
    ${keep}
    workgroupBarrier();
    next = first + ${tileKeys}u;
    ${fetch}
    ${scores}
    workgroupBarrier();
    var most = MASKED;
    ${quads
      .map(
        (n) => `var x${n} = scores[row * ${at.scores}u + first_key / 4u + ${n}u] * (p.scale * LOG2E);
    ${range(4)
      .map((e) => {
        const j = `first + first_key + ${n * 4 + e}u`;
        return `if (${j} >= end || !attends(segment, own, key_segment(b, min(${j}, end - 1u)), ${j})) { x${n}[${e}] = MASKED; }`;
      })
      .join('\n    ')}
    most = max(most, max(max(x${n}.x, x${n}.y), max(x${n}.z, x${n}.w)));`,
      )
      .join('\n    ')}
    ${highest}
    let raised = most > top + ${SLACK}.0;
    let raised_top = select(top, most, raised);
    let factor = exp2(top - raised_top);
    top = raised_top;
    total *= factor;
    // The number of the step says of which one it is: nothing has to be cleared between two barriers.
    if (raised) { atomicStore(&raises, first + 1u); }
    if (lid % ${threadsOfRow}u == 0u) { factors[row] = factor; }
    ${quads.map((n) => `x${n} = exp2(x${n} - top); total += (x${n}.x + x${n}.y) + (x${n}.z + x${n}.w);`).join('\n    ')}
    ${range(quads.length / 2)
      .map((n) => {
        const packed = [2 * n, 2 * n + 1].flatMap((m) => [`pack2x16float(x${m}.xy)`, `pack2x16float(x${m}.zw)`]);
        return `memory[${at.probabilities}u + row * ${at.weights}u + first_key / 8u + ${n}u] = vec4<u32>(${packed.join(', ')});`;
      })
      .join('\n    ')}
    // This is also the barrier that what was just written needs.
    if (workgroupUniformLoad(&raises) == first + 1u) {${rescale}
    }
    ${values}
  }
  ${sums
    .map(({ name, i, j }) => {
      const column = `(local.y * ${ownColumns.length}u + ${j}u) * ${MATRIX_SIDE}u`;
      const place = `((token * p.head_rows + head + ${i * MATRIX_SIDE}u) * p.parts + part) * ${valueSize}u + ${column}`;
      const store = units.store(name, PARTIAL, place, `p.parts * ${valueSize}u`);
      return even ? store : `if (${column} < ${valueSize}u) { ${store} }`;
    })
    .join('\n  ')}
  workgroupBarrier();
  maxima[lid] = total;
  workgroupBarrier();
  if (lid % ${threadsOfRow}u == 0u) {
    for (var n = 1u; n < ${threadsOfRow}u; n++) { total += maxima[lid + n]; }
    totals[(token * p.head_rows + head + row) * p.parts + part] = vec2<f32>(top, total);
  }`;
    return /* wgsl */ `${units.declarations()}
${HEADER}${directMaskFunctions(variant)}
var<workgroup> memory: array<vec4<u32>, ${at.halves}>;
var<workgroup> scores: array<vec4<f32>, ${tileHeads * at.scores}>;
var<workgroup> maxima: array<f32, ${threads}>;
var<workgroup> factors: array<f32, ${tileHeads}>;
var<workgroup> raises: atomic<u32>;
@compute @workgroup_size(${lanes}, ${SUBGROUPS})
fn main(@builtin(workgroup_id) wid: vec3<u32>, @builtin(num_workgroups) nwg: vec3<u32>, @builtin(local_invocation_id) local: vec3<u32>) {
${body}
}`;
  },
});
