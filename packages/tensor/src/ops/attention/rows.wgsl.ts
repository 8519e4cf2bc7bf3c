import { defineKernel, type KernelVariant, linearMain } from '../../device/kernel.js';
import { type MaskKind, maskFunctions, SIZE_PARAMS } from './mask.wgsl.js';

/**
 * Barrier-free kernels: an invocation owns a small tile of rows (queries and heads, or keys) in registers and walks
 * over the other side, so that each loaded key or query serves the whole tile. For software adapters, where loads are
 * the cost, and for heads too large for the tiled kernels.
 */

/** Compile-time constants of the kernels in this file. */
export type RowsConstants = {
  keySize: number;
  valueSize: number;
  valueWidth: number;
  mask: MaskKind;
  /** Queries an invocation, or keys in the gradient of keys and values. */
  tile: number;
  /** Heads an invocation; divides the group. */
  tileHeads: number;
  /** Keys a step of the online softmax. */
  step: number;
};

// Past this many chunks a row stays an indexed array and its loops stay loops.
const UNROLL = 8;

/** Repeats a statement for each chunk of a row, written out. */
export function unrolled(n: number, body: (c: string) => string): string {
  return Array.from({ length: n }, (_, c) => body(`${c}u`)).join('\n    ');
}

/**
 * Repeats a statement for each chunk of a row. The bound of a loop goes through `p.unit`, which is 1: a compiler that
 * knew it would unroll the loop, and lavapipe takes minutes to compile what comes of that for heads of 128.
 */
export function each(n: number, body: (c: string) => string): string {
  return n > UNROLL ? `for (var c = 0u; c < ${n}u * p.unit; c++) { ${body('c')} }` : unrolled(n, body);
}

const range = (n: number) => Array.from({ length: n }, (_, i) => i);

/** How rows of a size are held: in vec4s where it is a multiple of 4. */
function rowType(size: number, alsoDivisible = 4) {
  const wide = size % 4 === 0 && alsoDivisible % 4 === 0;
  return {
    width: wide ? 4 : 1,
    chunks: wide ? size / 4 : size,
    type: wide ? 'vec4<f32>' : 'f32',
    dot: (a: string, b: string) => (wide ? `dot(${a}, ${b})` : `${a} * ${b}`),
  };
}

type Row = ReturnType<typeof rowType>;

export function rowTypes(variant: Pick<KernelVariant, 'constants'>): { key: Row; value: Row; valueStride: number } {
  const { keySize, valueSize, valueWidth } = variant.constants as unknown as RowsConstants;
  const key = rowType(keySize);
  const value = rowType(valueSize, valueWidth);
  return { key, value, valueStride: valueWidth / value.width };
}

/** The `vectors` of a kernel whose bindings hold rows of queries and keys, or of values. */
export function rowVectors(keys: readonly string[], values: readonly string[]) {
  return (variant: KernelVariant): Record<string, 4> => {
    const { key, value } = rowTypes(variant);
    const wide = [...(key.width === 4 ? keys : []), ...(value.width === 4 ? values : [])];
    return Object.fromEntries(wide.map((name) => [name, 4 as const]));
  };
}

const workgroup = ({ software }: { software: boolean }) => (software ? 16 : 64);

/** WGSL that finds the tile of (query, head) rows of invocation `i`, and loads what masks them. */
function queryTile({ tile, tileHeads, mask }: RowsConstants): string {
  return /* wgsl */ `
  let tiles = (p.tq + ${tile - 1}u) / ${tile}u;
  let first_query = (i % tiles) * ${tile}u;
  let head_tiles = p.heads / ${tileHeads}u;
  let head = (i / tiles) % head_tiles * ${tileHeads}u;
  let b = i / (tiles * head_tiles);
  let key_head = head / p.group;
  let base = key_base();
  ${range(tile)
    .map(
      (a) => `let t${a} = min(first_query + ${a}u, p.tq - 1u);
  let own${a} = base + t${a};
  let segment${a} = query_segment(b, t${a});
  ${range(tileHeads)
    .map(
      (h) =>
        `let row${a}_${h} = (b * p.tq + t${a}) * p.heads + head + ${h}u;\n  let stat${a}_${h} = (b * p.heads + head + ${h}u) * p.tq + t${a};`,
    )
    .join('\n  ')}`,
    )
    .join('\n  ')}
  let last = own${tile - 1};
  var start = ${
    mask === 'segments'
      ? range(tile)
          .map((a) => `first_key(b, t${a})`)
          .reduce((x, y) => `min(${x}, ${y})`)
      : '0u'
  };`;
}

const rowsOf = ({ tile, tileHeads }: RowsConstants) =>
  range(tile).flatMap((a) => range(tileHeads).map((h) => ({ a, r: `${a}_${h}` })));

/** Forward: y and the logarithm of the softmax's denominator, with an online softmax over steps of keys. */
export const rowsForward = defineKernel({
  name: 'attention_rows',
  bindings: { q: 'read', k: 'read', v: 'read', mask: 'read', y: 'write', lse: 'write' },
  params: SIZE_PARAMS,
  workgroup,
  vectors: rowVectors(['q', 'k'], ['v', 'y']),
  source: (variant) => {
    const constants = variant.constants as unknown as RowsConstants;
    const { key, value, valueStride } = rowTypes(variant);
    const rows = rowsOf(constants);
    const steps = range(constants.step);
    const body = /* wgsl */ `${queryTile(constants)}
  ${rows
    .map(
      ({ r }) => `var q${r}: array<${key.type}, ${key.chunks}>; var o${r}: array<${value.type}, ${value.chunks}>;
  ${each(key.chunks, (c) => `q${r}[${c}] = ${key.type}(q[row${r} * ${key.chunks}u + ${c}]) * (p.scale * LOG2E);`)}
  var m${r} = LOWEST; var l${r} = 0.0;`,
    )
    .join('\n  ')}
  for (var j = start; j <= last; j += ${constants.step}u) {
    ${steps
      .map(
        (s) => `// Past the end the last key is read again, never one that may not be written yet.
    let key${s} = min(j + ${s}u, last);
    let key_row${s} = (b * p.tk + key${s}) * p.key_heads + key_head;
    ${rows.map(({ r }) => `var s${r}_${s} = 0.0;`).join(' ')}
    ${each(key.chunks, (c) => `{ let x = ${key.type}(k[key_row${s} * ${key.chunks}u + ${c}]); ${rows.map(({ r }) => `s${r}_${s} += ${key.dot(`q${r}[${c}]`, 'x')};`).join(' ')} }`)}
    let key_segment${s} = key_segment(b, key${s});
    ${rows.map(({ a, r }) => `s${r}_${s} = select(MASKED, s${r}_${s}, attends(segment${a}, own${a}, key_segment${s}, j + ${s}u));`).join('\n    ')}`,
      )
      .join('\n    ')}
    ${rows
      .map(
        ({ r }) => `let n${r} = ${steps.reduce((x, s) => `max(${x}, s${r}_${s})`, `m${r}`)};
    let shrink${r} = exp2(m${r} - n${r});
    m${r} = n${r};
    ${steps.map((s) => `let e${r}_${s} = exp2(s${r}_${s} - n${r});`).join(' ')}
    l${r} = l${r} * shrink${r} + ${steps.map((s) => `e${r}_${s}`).join(' + ')};`,
      )
      .join('\n    ')}
    ${each(value.chunks, (c) => `{ ${steps.map((s) => `let x${s} = ${value.type}(v[key_row${s} * ${valueStride}u + ${c}]);`).join(' ')} ${rows.map(({ r }) => `o${r}[${c}] = o${r}[${c}] * shrink${r} + ${steps.map((s) => `e${r}_${s} * x${s}`).join(' + ')};`).join(' ')} }`)}
  }
  ${rows
    .map(
      ({ a, r }) => `if (first_query + ${a}u < p.tq) {
    let inverse = 1.0 / l${r};
    ${each(value.chunks, (c) => `y[row${r} * ${value.chunks}u + ${c}] = y_t(o${r}[${c}] * inverse);`)}
    lse[stat${r}] = (m${r} + log2(l${r})) / LOG2E;
  }`,
    )
    .join('\n  ')}`;
    return HEADER + maskFunctions(constants.mask) + linearMain('p.count', body);
  },
});

/** Constants of every attention kernel. Below MASKED nothing is subtracted to infinity; exp2(MASKED − LOWEST) is 0. */
export const HEADER = /* wgsl */ `
const LOG2E = 1.4426950408889634;
const LOWEST = -1e30;
const MASKED = -3e38;
`;

/** For each (batch, head, query): the pair (lse · log2 e, Σ dO · O) that the gradient kernels want. */
export const statisticsKernel = defineKernel({
  name: 'attention_statistics',
  bindings: { y: 'read', g: 'read', lse: 'read', stats: 'write' },
  params: SIZE_PARAMS,
  vectors: () => ({ stats: 2 as const }),
  source: ({ constants }) =>
    HEADER +
    linearMain(
      'p.count',
      /* wgsl */ `
  let t = i % p.tq;
  let h = i / p.tq % p.heads;
  let row = ((i / (p.tq * p.heads) * p.tq + t) * p.heads + h) * ${constants['valueSize']}u;
  var total = 0.0;
  for (var d = row; d < row + ${constants['valueSize']}u; d++) { total += f32(y[d]) * f32(g[d]); }
  stats[i] = vec2<f32>(lse[i] * LOG2E, total);`,
    ),
});

/** Gradient of q: the owner of a (query, head) row walks over its keys. */
export const rowsQueryGradient = defineKernel({
  name: 'attention_rows_dq',
  bindings: { q: 'read', k: 'read', v: 'read', g: 'read', stats: 'read', mask: 'read', dq: 'write' },
  params: SIZE_PARAMS,
  workgroup,
  vectors: (variant) => ({ stats: 2 as const, ...rowVectors(['q', 'k', 'dq'], ['v', 'g'])(variant) }),
  source: (variant) => {
    const constants = variant.constants as unknown as RowsConstants;
    const { key, value, valueStride } = rowTypes(variant);
    const rows = rowsOf(constants);
    const body = /* wgsl */ `${queryTile(constants)}
  ${rows
    .map(
      ({
        r,
      }) => `var q${r}: array<${key.type}, ${key.chunks}>; var d${r}: array<${key.type}, ${key.chunks}>; var g${r}: array<${value.type}, ${value.chunks}>;
  ${each(key.chunks, (c) => `q${r}[${c}] = ${key.type}(q[row${r} * ${key.chunks}u + ${c}]) * (p.scale * LOG2E);`)}
  ${each(value.chunks, (c) => `g${r}[${c}] = ${value.type}(g[row${r} * ${value.chunks}u + ${c}]);`)}
  let stats${r} = stats[stat${r}];`,
    )
    .join('\n  ')}
  for (var j = start; j <= last; j++) {
    let key_row = (b * p.tk + j) * p.key_heads + key_head;
    let key_segment = key_segment(b, j);
    ${rows.map(({ r }) => `var s${r} = 0.0; var e${r} = 0.0;`).join(' ')}
    var x: array<${key.type}, ${key.chunks}>;
    ${each(key.chunks, (c) => `x[${c}] = ${key.type}(k[key_row * ${key.chunks}u + ${c}]); ${rows.map(({ r }) => `s${r} += ${key.dot(`q${r}[${c}]`, `x[${c}]`)};`).join(' ')}`)}
    ${each(value.chunks, (c) => `{ let w = ${value.type}(v[key_row * ${valueStride}u + ${c}]); ${rows.map(({ r }) => `e${r} += ${value.dot(`g${r}[${c}]`, 'w')};`).join(' ')} }`)}
    ${rows.map(({ a, r }) => `let ds${r} = select(0.0, exp2(s${r} - stats${r}.x), attends(segment${a}, own${a}, key_segment, j)) * (e${r} - stats${r}.y);`).join('\n    ')}
    ${each(key.chunks, (c) => rows.map(({ r }) => `d${r}[${c}] += ds${r} * x[${c}];`).join(' '))}
  }
  ${rows
    .map(
      ({ a, r }) =>
        `if (first_query + ${a}u < p.tq) {\n    ${each(key.chunks, (c) => `dq[row${r} * ${key.chunks}u + ${c}] = dq_t(d${r}[${c}] * p.scale);`)}\n  }`,
    )
    .join('\n  ')}`;
    return HEADER + maskFunctions(constants.mask) + linearMain('p.count', body);
  },
});

/** Gradients of k and v: the owner of a (key, key head) row walks over the queries of all heads of its group. */
export const rowsKeyGradient = defineKernel({
  name: 'attention_rows_dkv',
  bindings: { q: 'read', k: 'read', v: 'read', g: 'read', stats: 'read', mask: 'read', dk: 'write', dv: 'write' },
  params: SIZE_PARAMS,
  workgroup,
  vectors: (variant) => ({ stats: 2 as const, ...rowVectors(['q', 'k', 'dk'], ['v', 'g', 'dv'])(variant) }),
  source: (variant) => {
    const constants = variant.constants as unknown as RowsConstants;
    const { key, value, valueStride } = rowTypes(variant);
    const own = range(constants.tile);
    const wantsKey = variant.has('dk');
    const wantsValue = variant.has('dv');
    const body = /* wgsl */ `
  let tiles = (p.tk + ${constants.tile - 1}u) / ${constants.tile}u;
  let first = (i % tiles) * ${constants.tile}u;
  let key_head = (i / tiles) % p.key_heads;
  let b = i / (tiles * p.key_heads);
  let base = key_base();
  var end = 0u;
  ${own
    .map(
      (a) => `let j${a} = min(first + ${a}u, p.tk - 1u);
  let segment${a} = key_segment(b, j${a});
  end = max(end, end_query(b, j${a}));
  let row${a} = (b * p.tk + j${a}) * p.key_heads + key_head;
  // Rows past the valid keys may never have been written: they are not read, and get a zero gradient.
  let valid${a} = (b * p.tk + min(j${a}, base + p.tq - 1u)) * p.key_heads + key_head;
  var k${a}: array<${key.type}, ${key.chunks}>; ${wantsKey ? `var v${a}: array<${value.type}, ${value.chunks}>;` : ''}
  ${each(key.chunks, (c) => `k${a}[${c}] = ${key.type}(k[valid${a} * ${key.chunks}u + ${c}]) * (p.scale * LOG2E);`)}
  ${wantsKey ? each(value.chunks, (c) => `v${a}[${c}] = ${value.type}(v[valid${a} * ${valueStride}u + ${c}]);`) : ''}
  ${wantsKey ? `var dk${a}: array<${key.type}, ${key.chunks}>;` : ''} ${wantsValue ? `var dv${a}: array<${value.type}, ${value.chunks}>;` : ''}`,
    )
    .join('\n  ')}
  for (var t = select(0u, first - base, first > base); t < end; t++) {
    let query_segment = query_segment(b, t);
    ${own.map((a) => `let seen${a} = attends(query_segment, base + t, segment${a}, j${a});`).join('\n    ')}
    for (var h = key_head * p.group; h < (key_head + 1u) * p.group; h++) {
      let row = (b * p.tq + t) * p.heads + h;
      let stat = stats[(b * p.heads + h) * p.tq + t];
      var x: array<${key.type}, ${key.chunks}>; var w: array<${value.type}, ${value.chunks}>;
      ${own.map((a) => `var s${a} = 0.0; var e${a} = 0.0;`).join(' ')}
      ${each(key.chunks, (c) => `x[${c}] = ${key.type}(q[row * ${key.chunks}u + ${c}]); ${own.map((a) => `s${a} += ${key.dot(`k${a}[${c}]`, `x[${c}]`)};`).join(' ')}`)}
      ${each(value.chunks, (c) => `w[${c}] = ${value.type}(g[row * ${value.chunks}u + ${c}]); ${wantsKey ? own.map((a) => `e${a} += ${value.dot(`v${a}[${c}]`, `w[${c}]`)};`).join(' ') : ''}`)}
      ${own.map((a) => `let p${a} = select(0.0, exp2(s${a} - stat.x), seen${a}); let ds${a} = p${a} * (e${a} - stat.y);`).join('\n      ')}
      ${wantsKey ? each(key.chunks, (c) => own.map((a) => `dk${a}[${c}] += ds${a} * x[${c}];`).join(' ')) : ''}
      ${wantsValue ? each(value.chunks, (c) => own.map((a) => `dv${a}[${c}] += p${a} * w[${c}];`).join(' ')) : ''}
    }
  }
  ${own
    .map(
      (a) => `if (first + ${a}u < p.tk) {
    ${wantsKey ? each(key.chunks, (c) => `dk[row${a} * ${key.chunks}u + ${c}] = dk_t(dk${a}[${c}] * p.scale);`) : ''}
    ${wantsValue ? each(value.chunks, (c) => `dv[row${a} * ${value.chunks}u + ${c}] = dv_t(dv${a}[${c}]);`) : ''}
  }`,
    )
    .join('\n  ')}`;
    return HEADER + maskFunctions(constants.mask) + linearMain('p.count', body);
  },
});
