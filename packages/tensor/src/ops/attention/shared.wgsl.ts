import { defineKernel, type KernelVariant, rowMain } from '../../device/kernel.js';
import { maskFunctions, SIZE_PARAMS } from './mask.wgsl.js';
import { HEADER, type RowsConstants, rowTypes, rowVectors, unrolled } from './rows.wgsl.js';

/**
 * Kernels for software adapters with subgroups of a known size L: a workgroup is one subgroup, each lane owns rows in
 * registers, and a step loads L rows of the other side, one a lane, which are then handed round by broadcasts. Loads
 * are what costs on a CPU (each is a scalarised gather): this divides them by L. No barriers.
 */

/** Constants of the kernels in this file; `tile` counts queries (or keys) a lane. */
type SharedConstants = Omit<RowsConstants, 'step'> & {
  /** Lanes of a subgroup. */
  lanes: number;
  /** The broadcast that the adapter compiles to one instruction. */
  broadcast: string;
};

const range = (n: number) => Array.from({ length: n }, (_, i) => i);
const workgroup = ({ constants }: { constants: KernelVariant['constants'] }) => constants['lanes'] as number;
// Every loop bound is the same in all lanes of the workgroup, which the analysis cannot see through storage.
const main = (body: string) => `@diagnostic(off, subgroup_uniformity)${rowMain('p.count', body)}`;
const of = (variant: KernelVariant) => variant.constants as unknown as SharedConstants;

/** WGSL that finds the (query, head) rows of a lane: queries `lanes` apart, neighbouring heads. */
function queryTile({ tile, tileHeads, mask, lanes }: SharedConstants): string {
  const first = range(tile).map((a) => `first_key(b, t${a})`);
  return /* wgsl */ `
  let tiles = (p.tq + ${tile * lanes - 1}u) / ${tile * lanes}u;
  let first_query = row % tiles * ${tile * lanes}u + lid;
  let head_tiles = p.heads / ${tileHeads}u;
  let head = row / tiles % head_tiles * ${tileHeads}u;
  let b = row / (tiles * head_tiles);
  let key_head = head / p.group;
  let base = key_base();
  ${range(tile)
    .map(
      (a) => `let t${a} = min(first_query + ${a * lanes}u, p.tq - 1u);
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
  let last = base + min(row % tiles * ${tile * lanes}u + ${tile * lanes - 1}u, p.tq - 1u);
  let start = ${mask === 'segments' ? `subgroupMin(${first.reduce((x, y) => `min(${x}, ${y})`)})` : '0u'};`;
}

const rowsOf = ({ tile, tileHeads }: SharedConstants) =>
  range(tile).flatMap((a) => range(tileHeads).map((h) => ({ a, r: `${a}_${h}` })));

/** Forward: y and the logarithm of the softmax's denominator. */
export const sharedForward = defineKernel({
  name: 'attention_shared',
  bindings: { q: 'read', k: 'read', v: 'read', mask: 'read', y: 'write', lse: 'write' },
  params: SIZE_PARAMS,
  workgroup,
  vectors: rowVectors(['q', 'k'], ['v', 'y']),
  source: (variant) => {
    const constants = of(variant);
    const { key, value, valueStride } = rowTypes(variant);
    const rows = rowsOf(constants);
    const steps = range(constants.lanes);
    const { broadcast } = constants;
    return (
      HEADER +
      maskFunctions(constants.mask) +
      main(/* wgsl */ `${queryTile(constants)}
  ${rows
    .map(
      ({ r }) => `var q${r}: array<${key.type}, ${key.chunks}>; var o${r}: array<${value.type}, ${value.chunks}>;
  ${unrolled(key.chunks, (c) => `q${r}[${c}] = ${key.type}(q[row${r} * ${key.chunks}u + ${c}]) * (p.scale * LOG2E);`)}
  var m${r} = LOWEST; var l${r} = 0.0;`,
    )
    .join('\n  ')}
  for (var j = start; j <= last; j += ${constants.lanes}u) {
    // Past the end the last key is read again, never one that may not be written yet.
    let mine = min(j + lid, last);
    let my_row = (b * p.tk + mine) * p.key_heads + key_head;
    let my_segment = key_segment(b, mine);
    ${rows.map(({ r }) => steps.map((s) => `var s${r}_${s} = 0.0;`).join(' ')).join('\n    ')}
    ${unrolled(
      key.chunks,
      (c) => `{ let mine = ${key.type}(k[my_row * ${key.chunks}u + ${c}]);
      ${steps.map((s) => `{ let x = ${broadcast}(mine, ${s}u); ${rows.map(({ r }) => `s${r}_${s} += ${key.dot(`q${r}[${c}]`, 'x')};`).join(' ')} }`).join('\n      ')} }`,
    )}
    ${steps
      .map(
        (s) =>
          `{ let segment = ${constants.mask === 'segments' ? `${broadcast}(my_segment, ${s}u)` : 'my_segment'}; ${rows.map(({ a, r }) => `s${r}_${s} = select(MASKED, s${r}_${s}, attends(segment${a}, own${a}, segment, j + ${s}u));`).join(' ')} }`,
      )
      .join('\n    ')}
    ${rows
      .map(
        ({ r }) => `let n${r} = ${steps.reduce((x, s) => `max(${x}, s${r}_${s})`, `m${r}`)};
    let shrink${r} = exp2(m${r} - n${r});
    m${r} = n${r};
    ${steps.map((s) => `s${r}_${s} = exp2(s${r}_${s} - n${r});`).join(' ')}
    l${r} = l${r} * shrink${r} + ${steps.map((s) => `s${r}_${s}`).join(' + ')};`,
      )
      .join('\n    ')}
    ${unrolled(
      value.chunks,
      (c) => `{ let mine = ${value.type}(v[my_row * ${valueStride}u + ${c}]);
      ${rows.map(({ r }) => `o${r}[${c}] *= shrink${r};`).join(' ')}
      ${steps.map((s) => `{ let x = ${broadcast}(mine, ${s}u); ${rows.map(({ r }) => `o${r}[${c}] += s${r}_${s} * x;`).join(' ')} }`).join('\n      ')} }`,
    )}
  }
  ${rows
    .map(
      ({ a, r }) => `if (first_query + ${a * constants.lanes}u < p.tq) {
    let inverse = 1.0 / l${r};
    ${unrolled(value.chunks, (c) => `y[row${r} * ${value.chunks}u + ${c}] = y_t(o${r}[${c}] * inverse);`)}
    lse[stat${r}] = (m${r} + log2(l${r})) / LOG2E;
  }`,
    )
    .join('\n  ')}`)
    );
  },
});

/** Gradient of q. */
export const sharedQueryGradient = defineKernel({
  name: 'attention_shared_dq',
  bindings: { q: 'read', k: 'read', v: 'read', g: 'read', stats: 'read', mask: 'read', dq: 'write' },
  params: SIZE_PARAMS,
  workgroup,
  vectors: (variant) => ({ stats: 2 as const, ...rowVectors(['q', 'k', 'dq'], ['v', 'g'])(variant) }),
  source: (variant) => {
    const constants = of(variant);
    const { key, value, valueStride } = rowTypes(variant);
    const rows = rowsOf(constants);
    const { broadcast, lanes } = constants;
    const step = (s: number) => /* wgsl */ `{
      let segment = ${constants.mask === 'segments' ? `${broadcast}(my_segment, ${s}u)` : 'my_segment'};
      ${rows.map(({ r }) => `var s${r} = 0.0; var e${r} = 0.0;`).join(' ')}
      var x: array<${key.type}, ${key.chunks}>;
      ${unrolled(key.chunks, (c) => `x[${c}] = ${broadcast}(my_key[${c}], ${s}u); ${rows.map(({ r }) => `s${r} += ${key.dot(`q${r}[${c}]`, `x[${c}]`)};`).join(' ')}`)}
      ${unrolled(value.chunks, (c) => `{ let w = ${broadcast}(my_value[${c}], ${s}u); ${rows.map(({ r }) => `e${r} += ${value.dot(`g${r}[${c}]`, 'w')};`).join(' ')} }`)}
      ${rows.map(({ a, r }) => `let ds${r} = select(0.0, exp2(s${r} - stats${r}.x), attends(segment${a}, own${a}, segment, j + ${s}u)) * (e${r} - stats${r}.y);`).join('\n      ')}
      ${unrolled(key.chunks, (c) => rows.map(({ r }) => `d${r}[${c}] += ds${r} * x[${c}];`).join(' '))}
    }`;
    return (
      HEADER +
      maskFunctions(constants.mask) +
      main(/* wgsl */ `${queryTile(constants)}
  ${rows
    .map(
      ({
        r,
      }) => `var q${r}: array<${key.type}, ${key.chunks}>; var d${r}: array<${key.type}, ${key.chunks}>; var g${r}: array<${value.type}, ${value.chunks}>;
  ${unrolled(key.chunks, (c) => `q${r}[${c}] = ${key.type}(q[row${r} * ${key.chunks}u + ${c}]) * (p.scale * LOG2E);`)}
  ${unrolled(value.chunks, (c) => `g${r}[${c}] = ${value.type}(g[row${r} * ${value.chunks}u + ${c}]);`)}
  let stats${r} = stats[stat${r}];`,
    )
    .join('\n  ')}
  for (var j = start; j <= last; j += ${lanes}u) {
    let mine = min(j + lid, last);
    let my_row = (b * p.tk + mine) * p.key_heads + key_head;
    let my_segment = key_segment(b, mine);
    var my_key: array<${key.type}, ${key.chunks}>; var my_value: array<${value.type}, ${value.chunks}>;
    ${unrolled(key.chunks, (c) => `my_key[${c}] = ${key.type}(k[my_row * ${key.chunks}u + ${c}]);`)}
    ${unrolled(value.chunks, (c) => `my_value[${c}] = ${value.type}(v[my_row * ${valueStride}u + ${c}]);`)}
    ${range(lanes).map(step).join('\n    ')}
  }
  ${rows
    .map(
      ({ a, r }) =>
        `if (first_query + ${a * lanes}u < p.tq) {\n    ${unrolled(key.chunks, (c) => `dq[row${r} * ${key.chunks}u + ${c}] = dq_t(d${r}[${c}] * p.scale);`)}\n  }`,
    )
    .join('\n  ')}`)
    );
  },
});

/** Gradients of k and v: lanes own keys, and the queries of each head of the group are handed round. */
export const sharedKeyGradient = defineKernel({
  name: 'attention_shared_dkv',
  bindings: { q: 'read', k: 'read', v: 'read', g: 'read', stats: 'read', mask: 'read', dk: 'write', dv: 'write' },
  params: SIZE_PARAMS,
  workgroup,
  vectors: (variant) => ({ stats: 2 as const, ...rowVectors(['q', 'k', 'dk'], ['v', 'g', 'dv'])(variant) }),
  source: (variant) => {
    const constants = of(variant);
    const { key, value, valueStride } = rowTypes(variant);
    const { broadcast, lanes, tile } = constants;
    const own = range(tile);
    const wantsKey = variant.has('dk');
    const wantsValue = variant.has('dv');
    const step = (s: number) => /* wgsl */ `{
        let segment = ${constants.mask === 'segments' ? `${broadcast}(my_segment, ${s}u)` : 'my_segment'};
        let stat = ${broadcast}(my_stat, ${s}u);
        ${own.map((a) => `var s${a} = 0.0; var e${a} = 0.0;`).join(' ')}
        var x: array<${key.type}, ${key.chunks}>; var w: array<${value.type}, ${value.chunks}>;
        ${unrolled(key.chunks, (c) => `x[${c}] = ${broadcast}(my_query[${c}], ${s}u); ${own.map((a) => `s${a} += ${key.dot(`k${a}[${c}]`, `x[${c}]`)};`).join(' ')}`)}
        ${unrolled(value.chunks, (c) => `w[${c}] = ${broadcast}(my_g[${c}], ${s}u); ${wantsKey ? own.map((a) => `e${a} += ${value.dot(`v${a}[${c}]`, `w[${c}]`)};`).join(' ') : ''}`)}
        ${own.map((a) => `let p${a} = select(0.0, exp2(s${a} - stat.x), t + ${s}u < end && attends(segment, base + t + ${s}u, segment${a}, j${a})); let ds${a} = p${a} * (e${a} - stat.y);`).join('\n        ')}
        ${wantsKey ? unrolled(key.chunks, (c) => own.map((a) => `dk${a}[${c}] += ds${a} * x[${c}];`).join(' ')) : ''}
        ${wantsValue ? unrolled(value.chunks, (c) => own.map((a) => `dv${a}[${c}] += p${a} * w[${c}];`).join(' ')) : ''}
      }`;
    const ends = own.map((a) => `end_query(b, j${a})`).reduce((x, y) => `max(${x}, ${y})`);
    return (
      HEADER +
      maskFunctions(constants.mask) +
      main(/* wgsl */ `
  let tiles = (p.tk + ${tile * lanes - 1}u) / ${tile * lanes}u;
  let first = row % tiles * ${tile * lanes}u;
  let key_head = row / tiles % p.key_heads;
  let b = row / (tiles * p.key_heads);
  let base = key_base();
  ${own
    .map(
      (a) => `let j${a} = min(first + lid + ${a * lanes}u, p.tk - 1u);
  let segment${a} = key_segment(b, j${a});
  let row${a} = (b * p.tk + j${a}) * p.key_heads + key_head;
  // Rows past the valid keys may never have been written: they are not read, and get a zero gradient.
  let valid${a} = (b * p.tk + min(j${a}, base + p.tq - 1u)) * p.key_heads + key_head;
  var k${a}: array<${key.type}, ${key.chunks}>; ${wantsKey ? `var v${a}: array<${value.type}, ${value.chunks}>;` : ''}
  ${unrolled(key.chunks, (c) => `k${a}[${c}] = ${key.type}(k[valid${a} * ${key.chunks}u + ${c}]) * (p.scale * LOG2E);`)}
  ${wantsKey ? unrolled(value.chunks, (c) => `v${a}[${c}] = ${value.type}(v[valid${a} * ${valueStride}u + ${c}]);`) : ''}
  ${wantsKey ? `var dk${a}: array<${key.type}, ${key.chunks}>;` : ''} ${wantsValue ? `var dv${a}: array<${value.type}, ${value.chunks}>;` : ''}`,
    )
    .join('\n  ')}
  let end = ${constants.mask === 'segments' ? `subgroupMax(${ends})` : 'p.tq'};
  for (var h = key_head * p.group; h < (key_head + 1u) * p.group; h++) {
    for (var t = select(0u, first - base, first > base); t < end; t += ${lanes}u) {
      let mine = min(t + lid, p.tq - 1u);
      let my_segment = query_segment(b, mine);
      let my_stat = stats[(b * p.heads + h) * p.tq + mine];
      let my_row = (b * p.tq + mine) * p.heads + h;
      var my_query: array<${key.type}, ${key.chunks}>; var my_g: array<${value.type}, ${value.chunks}>;
      ${unrolled(key.chunks, (c) => `my_query[${c}] = ${key.type}(q[my_row * ${key.chunks}u + ${c}]);`)}
      ${unrolled(value.chunks, (c) => `my_g[${c}] = ${value.type}(g[my_row * ${value.chunks}u + ${c}]);`)}
      ${range(lanes).map(step).join('\n      ')}
    }
  }
  ${own
    .map(
      (a) => `if (first + lid + ${a * lanes}u < p.tk) {
    ${wantsKey ? unrolled(key.chunks, (c) => `dk[row${a} * ${key.chunks}u + ${c}] = dk_t(dk${a}[${c}] * p.scale);`) : ''}
    ${wantsValue ? unrolled(value.chunks, (c) => `dv[row${a} * ${value.chunks}u + ${c}] = dv_t(dv${a}[${c}]);`) : ''}
  }`,
    )
    .join('\n  ')}`)
    );
  },
});
