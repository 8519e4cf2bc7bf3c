import { defineKernel, type KernelVariant } from '../../device/kernel.js';
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
 * Gradients on the matrix units, without atomics: one kernel owns queries and walks over keys (dq), one owns keys and
 * walks over the queries of all heads of its group (dk, dv). Both are one template: with `own` rows A (q, dO or k, v)
 * in registers and the `other` rows X (k, v or q, dO) in workgroup memory,
 *
 *   S = A₁ X₁ᵀ, E = A₂ X₂ᵀ, W = exp(scale · S − lse), dS = scale · W ∘ (E − Δ), dA₁ = dS X₁, dA₂ = W X₂
 *
 * where keys are the rows S and E are the transposes of what they are where queries are. W and dS are float16 for the
 * products that they are operands of: W ≤ 1, and dS is a share of dq and dk, float16 themselves: it overflows about
 * where they do, and a loss scale that fits the one fits the other. Sums are float32.
 */
type Side = 'query' | 'key';

const wants = (side: Side, variant: Pick<KernelVariant, 'has'>) => ({
  /** dA₁: dq or dk. */
  first: side === 'query' || variant.has('dk'),
  /** dA₂: dv. */
  second: side === 'key' && variant.has('dv'),
});

type Wants = ReturnType<typeof wants>;

/** Where things lie in workgroup memory, in vectors of 16 bytes. */
function layout(side: Side, c: MatrixConstants) {
  const first = 0;
  const second = c.step * halfPitch(c.keySize);
  const buffer = second + c.step * halfPitch(c.valueSize);
  const s = c.buffers * buffer;
  const e = s + c.rows * floatPitch(c.step);
  const ds = Math.max(e + c.rows * floatPitch(c.step), s + shareOf(c).results);
  const weights = ds + c.rows * halfPitch(c.step);
  const columns = weights + (side === 'key' ? c.rows * halfPitch(c.step) : 0);
  /** Vectors of each kind for the columns of a step: lse and Δ, segments. */
  const kinds = (side === 'key' ? 2 : 0) + (c.mask === 'segments' ? 1 : 0);
  const end = columns + (c.buffers * kinds * c.step) / FLOATS;
  const own = c.rows * halfPitch(Math.max(c.keySize, c.valueSize));
  return { first, second, buffer, s, e, ds, weights, columns, kinds, vectors: Math.max(end, own) };
}

/** Bytes of workgroup memory that a variant takes. */
export const gradientMemory = (side: Side, c: MatrixConstants): number => 16 * layout(side, c).vectors + 16;

const vectors = (...names: string[]) => Object.fromEntries(names.map((name) => [name, 4 as const]));

/** Gradient of q. */
export const matrixQueryGradient = defineKernel({
  name: 'attention_matrix_dq',
  bindings: { q: 'read', k: 'read', v: 'read', g: 'read', stats: 'read', mask: 'read', dq: 'write' },
  params: SIZE_PARAMS,
  directives: matrixDirectives,
  vectors: () => ({ ...vectors('q', 'k', 'v', 'g', 'dq'), stats: 2 as const }),
  workgroup: ({ constants }) => shareOf(constants as unknown as MatrixConstants).threads,
  source: (variant) => source('query', variant),
});

/** Gradients of k and v. */
export const matrixKeyGradient = defineKernel({
  name: 'attention_matrix_dkv',
  bindings: { q: 'read', k: 'read', v: 'read', g: 'read', stats: 'read', mask: 'read', dk: 'write', dv: 'write' },
  params: SIZE_PARAMS,
  directives: matrixDirectives,
  vectors: () => ({ ...vectors('q', 'k', 'v', 'g', 'dk', 'dv'), stats: 2 as const }),
  workgroup: ({ constants }) => shareOf(constants as unknown as MatrixConstants).threads,
  source: (variant) => source('key', variant),
});

function source(side: Side, variant: KernelVariant): string {
  const c = variant.constants as unknown as MatrixConstants;
  const units = new MatrixUnits(c, variant);
  const body = main(side, c, units, wants(side, variant));
  return /* wgsl */ `${HEADER}${maskFunctions(c.mask)}${commonFunctions(c.mask)}
${units.declarations()}
var<workgroup> memory: array<vec4<u32>, ${layout(side, c).vectors}>;
${c.mask === 'segments' ? 'var<workgroup> bound: atomic<u32>;' : ''}
@compute @workgroup_size(${c.lanes}, ${c.subgroups})
fn main(@builtin(workgroup_id) wid: vec3<u32>, @builtin(num_workgroups) nwg: vec3<u32>, @builtin(local_invocation_id) local: vec3<u32>) {
${body}
}`;
}

/** Rows of q, k, v and dO as a kernel of a side sees them: A₁, A₂, X₁, X₂. */
function operands(side: Side, c: MatrixConstants): { own: [Lines, Lines]; other: [Lines, Lines] } {
  const { threads } = shareOf(c);
  const query = (name: string, size: number) => ({
    name,
    size,
    threads,
    address: (t: string) => `((b * p.tq + ${t}) * p.heads + head) * ${size / HALVES}u`,
  });
  const key = (name: string, size: number, width: number) => ({
    name,
    size,
    threads,
    address: (j: string) => `((b * p.tk + ${j}) * p.key_heads + key_head) * ${width / HALVES}u`,
  });
  const queries = [query('q', c.keySize), query('g', c.valueSize)] as const;
  const keys = [key('k', c.keySize, c.keySize), key('v', c.valueSize, c.valueWidth)] as const;
  const [own, other] = side === 'query' ? [queries, keys] : [keys, queries];
  const lines = (of: typeof own, count: number): [Lines, Lines] => [
    { ...of[0], lines: count },
    { ...of[1], lines: count },
  ];
  return { own: lines(own, c.rows), other: lines(other, c.step) };
}

/** WGSL for what a workgroup of the gradient of q owns, and the steps it walks over. */
const querySide = (c: MatrixConstants) => /* wgsl */ `
  let tiles = (p.tq + ${c.rows - 1}u) / ${c.rows}u;
  // Long rows first: the last tile of a head has the most keys. Neighbours work on neighbouring heads, whose rows lie
  // side by side in memory.
  let first = (tiles - 1u - tile / p.heads % tiles) * ${c.rows}u;
  let head = tile % p.heads;
  let b = tile / (tiles * p.heads);
  let key_head = head / p.group;
  let base = key_base();
  let own_end = p.tq;
  let end = base + min(first + ${c.rows}u, p.tq);
  let t = min(first + row, p.tq - 1u);
  let own = base + t;
  let segment = query_segment(b, t);
  let stat = stats[(b * p.heads + head) * p.tq + t];
  ${
    c.mask === 'segments'
      ? `atomicMax(&bound, 0xffffffffu - first_key(b, t));
  let start = 0xffffffffu - workgroupUniformLoad(&bound);`
      : 'let start = 0u;'
  }
  let steps = (end - start + ${c.step - 1}u) / ${c.step}u;`;

/** The same for the gradient of k and v. Rows past the valid keys are not read, and get a zero gradient. */
const keySide = (c: MatrixConstants) => /* wgsl */ `
  let tiles = (p.tk + ${c.rows - 1}u) / ${c.rows}u;
  // Long columns first: the first keys are seen by the most queries.
  let first = tile / p.key_heads % tiles * ${c.rows}u;
  let key_head = tile % p.key_heads;
  let b = tile / (tiles * p.key_heads);
  let base = key_base();
  let own_end = base + p.tq;
  let own = first + row;
  let segment = key_segment(b, min(own, p.tk - 1u));
  let start = select(0u, first - base, first > base);
  ${
    c.mask === 'segments'
      ? `if (own < p.tk) { atomicMax(&bound, end_query(b, own)); }
  let end = workgroupUniformLoad(&bound);`
      : 'let end = p.tq;'
  }
  let steps_of_head = select(0u, (end - start + ${c.step - 1}u) / ${c.step}u, end > start);
  let steps = steps_of_head * p.group;`;

function main(side: Side, c: MatrixConstants, units: MatrixUnits, want: Wants): string {
  const { down, across } = shareOf(c);
  const at = layout(side, c);
  const { own, other } = operands(side, c);
  const two = c.buffers === 2;
  const declare = (name: string) =>
    units.each(down, (i) => units.each(across, (j) => units.declare(`${name}${i}_${j}`)));
  const buffer = (n: string) => (two ? `(${n} & 1u) * ${at.buffer}u` : '0u');
  const columns = (n: string) => `${at.columns}u${two ? ` + (${n} & 1u) * ${(at.kinds * c.step) / FLOATS}u` : ''}`;
  // Where a step's rows of the other side begin, and of which head.
  const place = (n: string) =>
    side === 'query'
      ? `let origin = start + ${n} * ${c.step}u;`
      : `let round = ${n} / max(steps_of_head, 1u); let head = key_head * p.group + min(round, p.group - 1u); let origin = start + (${n} - round * steps_of_head) * ${c.step}u;`;
  const fetch = (n: string) => /* wgsl */ `{
      ${place(n)}
      ${other.map((lines) => fetchLines(lines, 'origin', 'end')).join('\n')}
      ${fetchColumns(side, c)}
    }`;
  const keep = (n: string) => /* wgsl */ `
    ${keepLines(other[0], `${buffer(n)} + ${at.first}u`)}
    ${keepLines(other[1], `${buffer(n)} + ${at.second}u`)}
    ${keepColumns(side, c, columns(n))}`;
  const refill = `${c.prefetch ? '' : fetch('(n + 1u)')}\n    ${keep('(n + 1u)')}`;
  const pass = (sums: string, size: number, target: string) =>
    throughMemory(c, units, sums, size, at.s, {
      body: (column) =>
        `if (inside) { ${writeHalves(target, `to * ${size / HALVES}u + (${column}) / ${HALVES}u`, '1.0')} }`,
    });
  return /* wgsl */ `
  let tile = wid.x + wid.y * nwg.x;
  if (tile >= p.count) { return; }
  ${units.begin('local.x', 'nwg.x')}${places(c)}
  ${side === 'query' ? querySide(c) : keySide(c)}
  ${loadOwn(c, units, own[0], 'first', 'own_end')}
  ${want.first ? loadOwn(c, units, own[1], 'first', 'own_end') : ''}
  ${BARRIER}
  ${other.map(declareLines).join(' ')} ${declareColumns(side, c)}
  ${want.first ? declareSums(c, units, 'one', c.keySize) : ''}
  ${want.second ? declareSums(c, units, 'two', c.valueSize) : ''}
  ${fetch('0u')}
  ${keep('0u')}
  ${BARRIER}
  for (var n = 0u; n < steps; n++) {
    let x_at = ${buffer('n')};
    ${c.prefetch ? fetch('(n + 1u)') : ''}
    {
      ${declare('s')}
      ${scores(c, units, 's', own[0].name, `x_at + ${at.first}u`, c.keySize)}
      ${storeScores(c, units, 's', at.s)}
    }
    ${
      want.first
        ? `{
      ${declare('e')}
      ${scores(c, units, 'e', own[1].name, `x_at + ${at.second}u`, c.valueSize)}
      ${storeScores(c, units, 'e', at.e)}
    }`
        : ''
    }
    ${BARRIER}
    {
      ${place('n')}
      ${weights(side, c, want, columns('n'))}
    }
    ${two ? refill : ''}
    ${BARRIER}
    ${want.first ? accumulate(c, units, 'one', at.ds, `x_at + ${at.first}u`, c.keySize) : ''}
    ${want.second ? accumulate(c, units, 'two', at.weights, `x_at + ${at.second}u`, c.valueSize) : ''}
    ${two ? '' : `${BARRIER}\n    ${refill}\n    ${BARRIER}`}
  }
  ${BARRIER}
  let inside = first + row < ${side === 'query' ? 'p.tq' : 'p.tk'};
  let to = ${side === 'query' ? '(b * p.tq + t) * p.heads + head' : '(b * p.tk + own) * p.key_heads + key_head'};
  ${want.first ? pass('one', c.keySize, side === 'query' ? 'dq' : 'dk') : ''}
  ${want.second ? pass('two', c.valueSize, 'dv') : ''}`;
}

/** WGSL that turns an invocation's part of a row of S and E into dS and W. */
function weights(side: Side, c: MatrixConstants, want: Wants, columns: string): string {
  const at = layout(side, c);
  const { parts } = shareOf(c);
  const [pitch, halvesPitch, vectorsOfStep] = [floatPitch(c.step), halfPitch(c.step), c.step / FLOATS];
  const value = (from: number, h: number) => `bitcast<vec4<f32>>(memory[${from}u + row * ${pitch}u + v + ${h}u])`;
  const column = (kind: number, type: string, h: number) =>
    `bitcast<vec4<${type}>>(memory[${columns} + ${kind * vectorsOfStep}u + v + ${h}u])`;
  const lse = (h: number) => (side === 'query' ? 'vec4<f32>(stat.x)' : column(0, 'f32', h));
  const delta = (h: number) => (side === 'query' ? 'vec4<f32>(stat.y)' : column(1, 'f32', h));
  const same = (h: number) =>
    c.mask === 'segments' ? `${column(at.kinds - 1, 'i32', h)} == vec4<i32>(segment)` : 'vec4<bool>(true)';
  const seen = (h: number) => {
    const index = `four(origin + (v + ${h}u) * ${FLOATS}u)`;
    return side === 'query'
      ? `four_attend(vec4<u32>(own), ${index}, ${same(h)})`
      : `(${index} < vec4<u32>(end)) & four_attend(vec4<u32>(base) + ${index}, vec4<u32>(own), ${same(h)})`;
  };
  const hidden =
    side === 'query'
      ? `origin + ${c.step - 1}u > base + first`
      : `base + origin < first + ${c.rows - 1}u || origin + ${c.step}u > end`;
  const [run, first] =
    side === 'query'
      ? ['key_run(b, origin)', 'key_segment(b, origin)']
      : ['query_run(b, origin)', 'query_segment(b, origin)'];
  const store = (to: number, name: string) =>
    `memory[${to}u + row * ${halvesPitch}u + v / 2u] = halves(${name}0, ${name}1);`;
  return /* wgsl */ `
      // Most steps hide nothing from a row: those on the diagonal do, and those of several segments.
      var edge = ${hidden};
      ${c.mask === 'segments' ? `edge = edge || ${run} < origin + ${c.step}u || ${first} != segment;` : ''}
      let first_vector = part * ${vectorsOfStep / parts}u;
      for (var v = first_vector; v < first_vector + ${vectorsOfStep / parts}u; v += 2u) {
        ${each(2, (h) => `var w${h} = exp2(${value(at.s, h)} * factor - ${lse(h)});`)}
        if (edge) { ${each(2, (h) => `w${h} = select(vec4<f32>(), w${h}, ${seen(h)});`, ' ')} }
        ${want.first ? each(2, (h) => `let d${h} = w${h} * (${value(at.e, h)} - ${delta(h)}) * p.scale;`) : ''}
        ${want.first ? store(at.ds, 'd') : ''}
        ${want.second ? store(at.weights, 'w') : ''}
      }`;
}

const declareColumns = (side: Side, c: MatrixConstants): string =>
  `${side === 'key' ? 'var fetched_lse: vec4<f32>; var fetched_delta: vec4<f32>;' : ''} ${c.mask === 'segments' ? 'var fetched_segments: vec4<i32>;' : ''}`;

/** WGSL that fetches what the columns of a step want: past the end that of the last, which the mask hides. */
function fetchColumns(side: Side, c: MatrixConstants): string {
  const last = side === 'query' ? 'p.tk - 1u' : 'p.tq - 1u';
  const index = (e: number) => `min(origin + lid * ${FLOATS}u + ${e}u, ${last})`;
  const segment = side === 'query' ? 'key_segment' : 'query_segment';
  const statistics = `${each(4, (e) => `let stat${e} = stats[(b * p.heads + head) * p.tq + ${index(e)}];`, ' ')}
        fetched_lse = vec4<f32>(${each(4, (e) => `stat${e}.x`, ', ')}); fetched_delta = vec4<f32>(${each(4, (e) => `stat${e}.y`, ', ')});`;
  const segments = `fetched_segments = vec4<i32>(${each(4, (e) => `${segment}(b, ${index(e)})`, ', ')});`;
  const parts = [...(side === 'key' ? [statistics] : []), ...(c.mask === 'segments' ? [segments] : [])];
  return parts.length > 0 ? `if (lid < ${c.step / FLOATS}u) { ${parts.join('\n        ')} }` : '';
}

/** WGSL that puts what was fetched into workgroup memory. */
function keepColumns(side: Side, c: MatrixConstants, at: string): string {
  const names = [...(side === 'key' ? ['lse', 'delta'] : []), ...(c.mask === 'segments' ? ['segments'] : [])];
  const each4 = names.map(
    (name, kind) => `memory[${at} + ${(kind * c.step) / FLOATS}u + lid] = bitcast<vec4<u32>>(fetched_${name});`,
  );
  return names.length > 0 ? `if (lid < ${c.step / FLOATS}u) { ${each4.join(' ')} }` : '';
}
