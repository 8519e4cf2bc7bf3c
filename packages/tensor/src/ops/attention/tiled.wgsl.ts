import { defineKernel, type KernelVariant, rowMain } from '../../device/kernel.js';
import { maskFunctions, SIZE_PARAMS } from './mask.wgsl.js';
import { HEADER, type RowsConstants } from './rows.wgsl.js';

/**
 * Workgroup-tiled flash attention for hardware GPUs (Dao, FlashAttention-2, 2023). A workgroup of 8 × 8 invocations
 * owns 32 rows and walks over tiles of 32 rows of the other side; heads are taken 32 elements at a time. An
 * invocation holds 4 rows (`ly`) × 4 columns (`lx`) of a score tile, and of each 32 columns of an accumulator.
 * Tiles in workgroup memory are 32 × 32 float32, 12 KiB in all; vec4s lie along the direction that is read.
 */

/** Constants of the kernels in this file. */
type TiledConstants = Pick<RowsConstants, 'keySize' | 'valueSize' | 'valueWidth' | 'mask'>;

/** Rows of a tile. */
export const TILE = 32;

const of = (variant: KernelVariant) => variant.constants as unknown as TiledConstants;
const chunksOf = (size: number) => Math.ceil(size / TILE);

const MEMORY = /* wgsl */ `
var<workgroup> left: array<vec4<f32>, 256>;  // [element][row / 4]
var<workgroup> right: array<vec4<f32>, 256>; // [element][row / 4], or [row][element / 4]
var<workgroup> across: array<vec4<f32>, 256>; // [column][row / 4] of a tile of probabilities
`;

/** Where a row of a tensor starts; declared per kernel as `<name>_row(b, index, head)`. */
const ROWS = {
  query: 'fn query_row(b: u32, t: u32, h: u32) -> u32 { return (b * p.tq + t) * p.heads + h; }',
  key: 'fn key_row(b: u32, j: u32, h: u32) -> u32 { return (b * p.tk + j) * p.key_heads + h; }',
};

/** WGSL that loads one vec4 of `source`: four elements of a row, or one element of four rows; zero outside. */
function load(
  target: 'left' | 'right',
  along: 'rows' | 'elements',
  source: string,
  row: string,
  stride: number,
  size: number,
  first: string,
  end: string,
  chunk: string,
): string {
  const guard = size % TILE === 0 ? '' : ` && element < ${size}u`;
  return /* wgsl */ `
  // Neighbouring invocations read neighbouring elements.
  for (var n = lid; n < 1024u; n += 64u) {
    let element = ${chunk} * 32u + n % 32u;
    let r = n / 32u;
    let index = ${first} + r;
    var x = 0.0;
    if (index < ${end}${guard}) { x = f32(${source}[${row} * ${stride}u + element]); }
    ${along === 'rows' ? `${target}[(n % 32u) * 8u + r / 4u][r % 4u] = x;` : `${target}[r * 8u + n % 32u / 4u][n % 4u] = x;`}
  }`;
}

/** WGSL: into[column] (vec4 over rows) += left · right over one chunk of 32 elements. */
const product = (into: string) => /* wgsl */ `
  for (var n = 0u; n < 32u; n++) {
    let x = left[n * 8u + ly];
    let w = right[n * 8u + lx];
    ${into}0 += x * w.x; ${into}1 += x * w.y; ${into}2 += x * w.z; ${into}3 += x * w.w;
  }`;

/** WGSL: into[4 · chunk + column] (vec4 over rows) += across · right over 32 rows of the other side. */
const accumulate = (into: string, chunk: number) => /* wgsl */ `
  for (var n = 0u; n < 32u; n++) {
    let x = across[n * 8u + ly];
    let w = right[n * 8u + lx];
    ${['x', 'y', 'z', 'w'].map((c, n) => `${into}[${chunk * 4 + n}] += x * w.${c};`).join(' ')}
  }`;

const range = (n: number) => Array.from({ length: n }, (_, i) => i);
const BARRIER = 'workgroupBarrier();';

/** WGSL that writes an accumulator to rows of a tensor. `factor` may speak of the row `n` of four. */
function store(
  target: string,
  from: string,
  row: string,
  size: number,
  first: string,
  end: string,
  factor: (n: number) => string,
): string {
  return range(4)
    .map((n) => {
      const writes = range(chunksOf(size) * 4).map((c) => {
        const element = `${Math.floor(c / 4) * TILE + (c % 4)}u + lx * 4u`;
        const guard = size % TILE === 0 ? '' : `if (${element} < ${size}u) `;
        return `${guard}{ ${target}[row * ${size}u + ${element}] = ${target}_t(${from}[${c}][${n}] * ${factor(n)}); }`;
      });
      return `{ let index = ${first} + ly * 4u + ${n}u; if (index < ${end}) { let row = ${row}; ${writes.join(' ')} } }`;
    })
    .join('\n  ');
}

/** WGSL that finds the tile of queries of workgroup `row` and the keys it walks over. */
const queryTile = (constants: TiledConstants) => /* wgsl */ `
  let lx = lid % 8u;
  let ly = lid / 8u;
  let tiles = (p.tq + 31u) / 32u;
  // Long rows first: the last tile has the most keys.
  let first = (tiles - 1u - row % tiles) * 32u;
  let head = row / tiles % p.heads;
  let b = row / (tiles * p.heads);
  let key_head = head / p.group;
  let base = key_base();
  let keys_end = base + min(first + 32u, p.tq);
  var start = 0u;
  ${
    constants.mask === 'segments'
      ? `start = first_key(b, first);
  for (var t = first + 1u; t < min(first + 32u, p.tq); t++) { start = min(start, first_key(b, t)); }`
      : ''
  }
  ${range(4)
    .map(
      (n) =>
        `let t${n} = min(first + ly * 4u + ${n}u, p.tq - 1u); let own${n} = base + t${n}; let segment${n} = query_segment(b, t${n});`,
    )
    .join('\n  ')}`;

/** WGSL that replaces scores of keys (columns) that queries (rows) do not see. */
const maskKeys = (scores: string, otherwise: string) =>
  range(4)
    .map(
      (
        c,
      ) => `{ let at = j + lx * 4u + ${c}u; let seen = at < keys_end; let segment = key_segment(b, min(at, keys_end - 1u));
    ${range(4)
      .map((n) => `if (!(seen && attends(segment${n}, own${n}, segment, at))) { ${scores}${c}[${n}] = ${otherwise}; }`)
      .join(' ')} }`,
    )
    .join('\n    ');

/** WGSL that reduces `own` (a vec4 over rows) over the 8 invocations of a row, in a fixed order. */
const reduceRows = (own: string, combine: (a: string, b: string) => string) => /* wgsl */ `
    ${BARRIER}
    left[lx * 8u + ly] = ${own};
    ${BARRIER}
    ${own} = ${range(8)
      .map((n) => `left[${n * 8}u + ly]`)
      .reduce(combine)};`;

/** WGSL: scores s0…s3 of the tile of queries against the keys at `j`, times scale · log2 e. */
function queryScores(constants: TiledConstants): string {
  const { keySize } = constants;
  return /* wgsl */ `
    var s0 = vec4<f32>(); var s1 = vec4<f32>(); var s2 = vec4<f32>(); var s3 = vec4<f32>();
    for (var chunk = 0u; chunk < ${chunksOf(keySize)}u; chunk++) {
      ${BARRIER}
      ${load('left', 'rows', 'q', 'query_row(b, index, head)', keySize, keySize, 'first', 'p.tq', 'chunk')}
      ${load('right', 'rows', 'k', 'key_row(b, index, key_head)', keySize, keySize, 'j', 'keys_end', 'chunk')}
      ${BARRIER}
      ${product('s')}
    }
    ${range(4)
      .map((c) => `s${c} *= p.scale * LOG2E;`)
      .join(' ')}`;
}

const STORE_ACROSS = (name: string) =>
  range(4)
    .map((c) => `across[(lx * 4u + ${c}u) * 8u + ly] = ${name}${c};`)
    .join(' ');

/** Forward: y and the logarithm of the softmax's denominator. */
export const tiledForward = defineKernel({
  name: 'attention_tiled',
  bindings: { q: 'read', k: 'read', v: 'read', mask: 'read', y: 'write', lse: 'write' },
  params: SIZE_PARAMS,
  workgroup: 64,
  source: (variant) => {
    const constants = of(variant);
    const { valueSize, valueWidth, mask } = constants;
    const max = (a: string, b: string) => `max(${a}, ${b})`;
    const body = /* wgsl */ `${queryTile(constants)}
  var o: array<vec4<f32>, ${chunksOf(valueSize) * 4}>;
  var most = vec4<f32>(LOWEST);
  var total = vec4<f32>();
  for (var j = start; j < keys_end; j += 32u) {
    ${queryScores(constants)}
    ${maskKeys('s', 'MASKED')}
    var top = max(max(s0, s1), max(s2, s3));
    ${reduceRows('top', max)}
    top = max(top, most);
    let shrink = exp2(most - top);
    most = top;
    ${range(4)
      .map((c) => `s${c} = exp2(s${c} - top);`)
      .join(' ')}
    // Each invocation sums its own columns; the eight of a row are added at the end.
    total = total * shrink + (s0 + s1) + (s2 + s3);
    ${STORE_ACROSS('s')}
    ${range(chunksOf(valueSize))
      .map(
        (chunk) => `${BARRIER}
    ${load('right', 'elements', 'v', 'key_row(b, index, key_head)', valueWidth, valueSize, 'j', 'keys_end', `${chunk}u`)}
    ${BARRIER}
    ${range(4)
      .map((c) => `o[${chunk * 4 + c}] *= shrink;`)
      .join(' ')}
    ${accumulate('o', chunk)}`,
      )
      .join('\n    ')}
  }
  ${reduceRows('total', (a, b) => `${a} + ${b}`)}
  ${store('y', 'o', 'query_row(b, index, head)', valueSize, 'first', 'p.tq', (n) => `(1.0 / total[${n}])`)}
  if (lx == 0u) {
    ${range(4)
      .map(
        (n) =>
          `if (first + ly * 4u + ${n}u < p.tq) { lse[(b * p.heads + head) * p.tq + t${n}] = (most[${n}] + log2(total[${n}])) / LOG2E; }`,
      )
      .join('\n    ')}
  }`;
    return HEADER + MEMORY + ROWS.query + ROWS.key + maskFunctions(mask) + rowMain('p.count', body);
  },
});

/** Gradient of q. */
export const tiledQueryGradient = defineKernel({
  name: 'attention_tiled_dq',
  bindings: { q: 'read', k: 'read', v: 'read', g: 'read', stats: 'read', mask: 'read', dq: 'write' },
  params: SIZE_PARAMS,
  workgroup: 64,
  vectors: () => ({ stats: 2 as const }),
  source: (variant) => {
    const constants = of(variant);
    const { keySize, valueSize, valueWidth, mask } = constants;
    const body = /* wgsl */ `${queryTile(constants)}
  ${range(4)
    .map((n) => `let stat${n} = stats[(b * p.heads + head) * p.tq + t${n}];`)
    .join(' ')}
  let lse = vec4<f32>(stat0.x, stat1.x, stat2.x, stat3.x);
  let delta = vec4<f32>(stat0.y, stat1.y, stat2.y, stat3.y);
  var d: array<vec4<f32>, ${chunksOf(keySize) * 4}>;
  for (var j = start; j < keys_end; j += 32u) {
    ${queryScores(constants)}
    ${maskKeys('s', 'MASKED')}
    var e0 = vec4<f32>(); var e1 = vec4<f32>(); var e2 = vec4<f32>(); var e3 = vec4<f32>();
    for (var chunk = 0u; chunk < ${chunksOf(valueSize)}u; chunk++) {
      ${BARRIER}
      ${load('left', 'rows', 'g', 'query_row(b, index, head)', valueSize, valueSize, 'first', 'p.tq', 'chunk')}
      ${load('right', 'rows', 'v', 'key_row(b, index, key_head)', valueWidth, valueSize, 'j', 'keys_end', 'chunk')}
      ${BARRIER}
      ${product('e')}
    }
    ${range(4)
      .map((c) => `s${c} = exp2(s${c} - lse) * (e${c} - delta);`)
      .join(' ')}
    ${STORE_ACROSS('s')}
    ${range(chunksOf(keySize))
      .map(
        (chunk) => `${BARRIER}
    ${load('right', 'elements', 'k', 'key_row(b, index, key_head)', keySize, keySize, 'j', 'keys_end', `${chunk}u`)}
    ${BARRIER}
    ${accumulate('d', chunk)}`,
      )
      .join('\n    ')}
  }
  ${store('dq', 'd', 'query_row(b, index, head)', keySize, 'first', 'p.tq', () => 'p.scale')}`;
    return HEADER + MEMORY + ROWS.query + ROWS.key + maskFunctions(mask) + rowMain('p.count', body);
  },
});

/** Gradients of k and v: rows are keys, columns the queries of each head of the group in turn. */
export const tiledKeyGradient = defineKernel({
  name: 'attention_tiled_dkv',
  bindings: { q: 'read', k: 'read', v: 'read', g: 'read', stats: 'read', mask: 'read', dk: 'write', dv: 'write' },
  params: SIZE_PARAMS,
  workgroup: 64,
  vectors: () => ({ stats: 2 as const }),
  source: (variant) => {
    const constants = of(variant);
    const { keySize, valueSize, valueWidth, mask } = constants;
    const wantsKey = variant.has('dk');
    const wantsValue = variant.has('dv');
    const gradientOf = (into: string, source: string, size: number) =>
      range(chunksOf(size))
        .map(
          (chunk) => `${BARRIER}
      ${load('right', 'elements', source, 'query_row(b, index, head)', size, size, 't', 'queries_end', `${chunk}u`)}
      ${BARRIER}
      ${accumulate(into, chunk)}`,
        )
        .join('\n      ');
    const scoreGradient = /* wgsl */ `
      var e0 = vec4<f32>(); var e1 = vec4<f32>(); var e2 = vec4<f32>(); var e3 = vec4<f32>();
      for (var chunk = 0u; chunk < ${chunksOf(valueSize)}u; chunk++) {
        ${BARRIER}
        ${load('left', 'rows', 'v', 'key_row(b, index, key_head)', valueWidth, valueSize, 'first', 'keys_end', 'chunk')}
        ${load('right', 'rows', 'g', 'query_row(b, index, head)', valueSize, valueSize, 't', 'queries_end', 'chunk')}
        ${BARRIER}
        ${product('e')}
      }
      ${range(4)
        .map((c) => `e${c} = s${c} * (e${c} - stat${c}.y);`)
        .join(' ')}
      ${BARRIER}
      ${STORE_ACROSS('e')}
      ${gradientOf('key_gradient', 'q', keySize)}`;
    const body = /* wgsl */ `
  let lx = lid % 8u;
  let ly = lid / 8u;
  let tiles = (p.tk + 31u) / 32u;
  let first = row % tiles * 32u;
  let key_head = row / tiles % p.key_heads;
  let b = row / (tiles * p.key_heads);
  let base = key_base();
  let start = select(0u, first - base, first > base);
  // Rows past the valid keys may never have been written: they are not read, and get a zero gradient.
  let keys_end = base + p.tq;
  var queries_end = p.tq;
  ${
    mask === 'segments'
      ? `queries_end = 0u;
  for (var j = first; j < min(first + 32u, p.tk); j++) { queries_end = max(queries_end, end_query(b, j)); }`
      : ''
  }
  ${range(4)
    .map((n) => `let j${n} = first + ly * 4u + ${n}u; let segment${n} = key_segment(b, min(j${n}, p.tk - 1u));`)
    .join('\n  ')}
  ${wantsKey ? `var key_gradient: array<vec4<f32>, ${chunksOf(keySize) * 4}>;` : ''}
  ${wantsValue ? `var value_gradient: array<vec4<f32>, ${chunksOf(valueSize) * 4}>;` : ''}
  for (var head = key_head * p.group; head < (key_head + 1u) * p.group; head++) {
    for (var t = start; t < queries_end; t += 32u) {
      var s0 = vec4<f32>(); var s1 = vec4<f32>(); var s2 = vec4<f32>(); var s3 = vec4<f32>();
      for (var chunk = 0u; chunk < ${chunksOf(keySize)}u; chunk++) {
        ${BARRIER}
        ${load('left', 'rows', 'k', 'key_row(b, index, key_head)', keySize, keySize, 'first', 'keys_end', 'chunk')}
        ${load('right', 'rows', 'q', 'query_row(b, index, head)', keySize, keySize, 't', 'queries_end', 'chunk')}
        ${BARRIER}
        ${product('s')}
      }
      ${range(4)
        .map(
          (c) => `let t${c} = t + lx * 4u + ${c}u; let query${c} = min(t${c}, p.tq - 1u);
      let stat${c} = stats[(b * p.heads + head) * p.tq + query${c}];
      s${c} = exp2(s${c} * (p.scale * LOG2E) - stat${c}.x);
      { let segment = query_segment(b, query${c}); let seen = t${c} < queries_end;
        ${range(4)
          .map((n) => `if (!(seen && attends(segment, base + t${c}, segment${n}, j${n}))) { s${c}[${n}] = 0.0; }`)
          .join(' ')} }`,
        )
        .join('\n      ')}
      ${wantsValue ? `${STORE_ACROSS('s')}\n      ${gradientOf('value_gradient', 'g', valueSize)}` : ''}
      ${wantsKey ? scoreGradient : ''}
    }
  }
  ${wantsKey ? store('dk', 'key_gradient', 'key_row(b, index, key_head)', keySize, 'first', 'p.tk', () => 'p.scale') : ''}
  ${wantsValue ? store('dv', 'value_gradient', 'key_row(b, index, key_head)', valueSize, 'first', 'p.tk', () => '1.0') : ''}`;
    return HEADER + MEMORY + ROWS.query + ROWS.key + maskFunctions(mask) + rowMain('p.count', body);
  },
});
