import { defineKernel, type KernelVariant, linearMain, rowMain } from '../../device/kernel.js';
import { directMaskFunctions } from './mask.wgsl.js';
import { each, HEADER, rowTypes, rowVectors } from './rows.wgsl.js';

/**
 * Attention of few queries to many keys: the keys are split into parts that run side by side, and a second kernel
 * merges their softmaxes (flash decoding). The number of parts is fixed by the capacity, the length of a part by the
 * number of valid keys, so that a recorded program serves a growing cache.
 */

/** Invocations of a workgroup of the hardware kernel, and the most keys a part can have there. */
export const PART = 128;

/** float32s of the queries that a workgroup of the hardware kernel holds. */
export const MOST_QUERY = 2304;

/** Parameters of the decoding kernels. */
export const DECODE_PARAMS = {
  count: 'u32',
  tq: 'u32',
  tk: 'u32',
  heads: 'u32',
  /** Rows that a token has in `partial` and `totals`: one a head, and what fills the last tile of heads. */
  head_rows: 'u32',
  key_heads: 'u32',
  group: 'u32',
  parts: 'u32',
  /** Always 1. */
  unit: 'u32',
  scale: 'f32',
} as const;

/** Bindings of the decoding kernels. */
export const DECODE_BINDINGS = {
  q: 'read',
  k: 'read',
  v: 'read',
  segments: 'read',
  key_segments: 'read',
  length: 'read',
  partial: 'write',
  totals: 'write',
} as const;

const vectors = (variant: KernelVariant) => ({
  totals: 2 as const,
  ...rowVectors(['q', 'k'], ['v', 'partial'])(variant),
});
const range = (n: number) => Array.from({ length: n }, (_, i) => i);

/** WGSL that finds the keys of a part: those from `start` to before `end`. */
export const PART_KEYS = /* wgsl */ `
  let own = key_base() + t;
  let part_size = own / p.parts + 1u;
  let start = part * part_size;
  let end = min(start + part_size, own + 1u);
  // Empty parts come last; the merge does not read them.
  if (start >= end) { return; }
  let segment = query_segment(b, t);`;

/** Barrier-free: an invocation owns one part of one (query, head) row. */
export const decodeRows = defineKernel({
  name: 'attention_decode_rows',
  bindings: DECODE_BINDINGS,
  params: DECODE_PARAMS,
  workgroup: 8,
  vectors,
  source: (variant) => {
    const { key, value, valueStride } = rowTypes(variant);
    return (
      HEADER +
      directMaskFunctions(variant) +
      linearMain(
        'p.count',
        /* wgsl */ `
  let part = i % p.parts;
  let row = i / p.parts;
  let head = row % p.heads;
  let t = row / p.heads % p.tq;
  let b = row / (p.heads * p.tq);
  let key_head = head / p.group;
  ${PART_KEYS}
  var query: array<${key.type}, ${key.chunks}>;
  var o: array<${value.type}, ${value.chunks}>;
  ${each(key.chunks, (c) => `query[${c}] = ${key.type}(q[row * ${key.chunks}u + ${c}]) * (p.scale * LOG2E);`)}
  var most = LOWEST;
  var total = 0.0;
  for (var j = start; j < end; j++) {
    if (!attends(segment, own, key_segment(b, j), j)) { continue; }
    let key_row = (b * p.tk + j) * p.key_heads + key_head;
    var s = 0.0;
    ${each(key.chunks, (c) => `s += ${key.dot(`query[${c}]`, `${key.type}(k[key_row * ${key.chunks}u + ${c}])`)};`)}
    let top = max(most, s);
    let shrink = exp2(most - top);
    let e = exp2(s - top);
    most = top;
    total = total * shrink + e;
    ${each(value.chunks, (c) => `o[${c}] = o[${c}] * shrink + e * ${value.type}(v[key_row * ${valueStride}u + ${c}]);`)}
  }
  ${each(value.chunks, (c) => `partial[i * ${value.chunks}u + ${c}] = o[${c}];`)}
  totals[i] = vec2<f32>(most, total);`,
      )
    );
  },
});

/** Hardware: a workgroup owns one part of a few heads of one group, which share its keys; first scores, then values. */
export const decodeTiled = defineKernel({
  name: 'attention_decode',
  bindings: DECODE_BINDINGS,
  params: DECODE_PARAMS,
  workgroup: PART,
  vectors,
  source: (variant) => {
    const { key, value, valueStride } = rowTypes(variant);
    const tileHeads = variant.constants['tileHeads'] as number;
    const heads = range(tileHeads);
    const columns = Math.ceil(value.chunks / PART);
    const slices = Math.max(1, Math.floor(PART / value.chunks));
    return /* wgsl */ `${HEADER}${directMaskFunctions(variant)}
var<workgroup> query: array<${key.type}, ${tileHeads * key.chunks}>;
var<workgroup> scores: array<f32, ${tileHeads * PART}>;
var<workgroup> tops: array<f32, ${tileHeads * 8}>;
var<workgroup> sums: array<${value.type}, ${PART}>;
var<workgroup> counts: array<f32, ${PART}>;
${rowMain(
  'p.count',
  /* wgsl */ `
  let part = row % p.parts;
  let head = row / p.parts % (p.heads / ${tileHeads}u) * ${tileHeads}u;
  let token = row / (p.parts * (p.heads / ${tileHeads}u));
  let t = token % p.tq;
  let b = token / p.tq;
  let key_head = head / p.group;
  ${PART_KEYS}
  for (var n = lid; n < ${tileHeads * key.chunks}u; n += WORKGROUP) {
    query[n] = ${key.type}(q[(token * p.heads + head) * ${key.chunks}u + n]) * (p.scale * LOG2E);
  }
  workgroupBarrier();
  // A key an invocation.
  let j = start + lid;
  ${heads.map((h) => `var s${h} = MASKED;`).join(' ')}
  if (j < end && attends(segment, own, key_segment(b, min(j, end - 1u)), j)) {
    let at = ((b * p.tk + j) * p.key_heads + key_head) * ${key.chunks}u;
    ${heads.map((h) => `s${h} = 0.0;`).join(' ')}
    for (var c = 0u; c < ${key.chunks}u * p.unit; c++) {
      let x = ${key.type}(k[at + c]);
      ${heads.map((h) => `s${h} += ${key.dot(`query[${h * key.chunks}u + c]`, 'x')};`).join(' ')}
    }
  }
  ${heads.map((h) => `scores[${h * PART}u + lid] = s${h};`).join(' ')}
  workgroupBarrier();
  if (lid < ${tileHeads * 8}u) {
    var top = LOWEST;
    for (var n = 0u; n < ${PART / 8}u; n++) { top = max(top, scores[lid * ${PART / 8}u + n]); }
    tops[lid] = top;
  }
  workgroupBarrier();
  ${heads
    .map(
      (h) => `let most${h} = ${range(8)
        .map((n) => `tops[${h * 8 + n}u]`)
        .reduce((x, y) => `max(${x}, ${y})`)};
  scores[${h * PART}u + lid] = exp2(s${h} - most${h});`,
    )
    .join('\n  ')}
  workgroupBarrier();
  // Elements of the value across invocations; where they are few, several share a column and take turns at the keys.
  let slice = lid / ${Math.min(value.chunks, PART)}u;
  let column = lid % ${Math.min(value.chunks, PART)}u;
  ${heads.map((h) => `var o${h}: array<${value.type}, ${columns}>; var l${h} = 0.0;`).join(' ')}
  for (var n = slice; n < select(0u, end - start, slice < ${slices}u); n += ${slices}u) {
    let at = ((b * p.tk + start + n) * p.key_heads + key_head) * ${valueStride}u + column;
    ${heads.map((h) => `let e${h} = scores[${h * PART}u + n]; l${h} += e${h};`).join(' ')}
    ${range(columns)
      .map(
        (c) =>
          `if (column + ${c * PART}u < ${value.chunks}u) { let x = ${value.type}(v[at + ${c * PART}u]); ${heads.map((h) => `o${h}[${c}] += e${h} * x;`).join(' ')} }`,
      )
      .join('\n    ')}
  }
  ${heads
    .map(
      (h) => `{
    let at = (token * p.heads + head + ${h}u) * p.parts + part;
    counts[lid] = l${h};
    ${range(columns)
      .map(
        (c) => `sums[lid] = o${h}[${c}];
    workgroupBarrier();
    if (slice == 0u && column + ${c * PART}u < ${value.chunks}u) {
      var total = sums[lid];
      for (var n = 1u; n < ${slices}u; n++) { total += sums[lid + n * ${value.chunks}u]; }
      partial[at * ${value.chunks}u + column + ${c * PART}u] = total;
    }`,
      )
      .join('\n    workgroupBarrier();\n    ')}
    if (lid == 0u) {
      var total = counts[0];
      for (var n = 1u; n < ${slices}u; n++) { total += counts[n * ${Math.min(value.chunks, PART)}u]; }
      totals[at] = vec2<f32>(most${h}, total);
    }
    workgroupBarrier();
  }`,
    )
    .join('\n  ')}`,
)}`;
  },
});

/** Merges the parts of each row: y and the logarithm of the softmax's denominator. */
export const decodeMerge = defineKernel({
  name: 'attention_decode_merge',
  bindings: { partial: 'read', totals: 'read', length: 'read', y: 'write', lse: 'write' },
  params: DECODE_PARAMS,
  vectors: (variant) => ({ totals: 2 as const, ...rowVectors([], ['partial', 'y'])(variant) }),
  source: (variant) => {
    const { value } = rowTypes(variant);
    return (
      HEADER +
      directMaskFunctions(variant) +
      linearMain(
        'p.count',
        /* wgsl */ `
  let c = i % ${value.chunks}u;
  let row = i / ${value.chunks}u;
  let head = row % p.heads;
  let t = row / p.heads % p.tq;
  let b = row / (p.heads * p.tq);
  let own = key_base() + t;
  let first = (row / p.heads * p.head_rows + head) * p.parts;
  let end = first + own / (own / p.parts + 1u) + 1u;
  var most = LOWEST;
  for (var n = first; n < end; n++) { most = max(most, totals[n].x); }
  var total = 0.0;
  var o = ${value.type}();
  for (var n = first; n < end; n++) {
    let weight = exp2(totals[n].x - most);
    total += weight * totals[n].y;
    o += weight * partial[n * ${value.chunks}u + c];
  }
  y[i] = y_t(o * (1.0 / total));
  if (c == 0u) { lse[(b * p.heads + head) * p.tq + t] = (most + log2(total)) / LOG2E; }`,
      )
    );
  },
});
