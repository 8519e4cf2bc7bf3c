import { defineKernel, linearMain } from '../../device/kernel.js';
import { rowVectors, vectorHelpers } from '../row/row-lanes.wgsl.js';

/**
 * Of rows [queries | keys | values] of heads: the queries rotated, the keys rotated and the values as they are into the
 * cache. One pair of units of a head an invocation; a unit is one value, or 4 neighbours where everything divides by 4.
 */
export const ropeCacheKernel = defineKernel({
  name: 'rope_cache',
  bindings: {
    rows: 'read',
    cos_table: 'read',
    sin_table: 'read',
    positions: 'read',
    length: 'read',
    q: 'write',
    keys: 'write',
    values: 'write',
  },
  params: {
    count: 'u32',
    heads: 'u32',
    key_heads: 'u32',
    tokens: 'u32',
    capacity: 'u32',
    /** Pairs of units of a head. */
    pairs: 'u32',
    table_rows: 'u32',
  },
  vectors: rowVectors('rows', 'cos_table', 'sin_table', 'q', 'keys', 'values'),
  source: ({ constants, has }) =>
    vectorHelpers(constants['width']) +
    linearMain(
      'p.count',
      `
  let j = i % p.pairs;
  let all = p.heads + 2u * p.key_heads;
  let head = i / p.pairs % all;
  let token = i / (p.pairs * all);
  let source = i / p.pairs * 2u * p.pairs + j;
  let a = F(rows[source]);
  let b = F(rows[source + p.pairs]);
  // Positions are data: one outside the table reads the nearest row that there is.
  let position = ${has('positions') ? 'u32(max(positions[token], 0))' : 'token % p.tokens'};
  let angle = min(position, p.table_rows - 1u) * p.pairs + j;
  let c = cos_table[angle];
  let s = sin_table[angle];
  let turned_a = a * c - b * s;
  let turned_b = b * c + a * s;
  if (head < p.heads) {
    let to = (token * p.heads + head) * 2u * p.pairs + j;
    q[to] = q_t(turned_a);
    q[to + p.pairs] = q_t(turned_b);
    return;
  }
  // A negative length becomes a large unsigned number: it is out of bounds as well.
  let at = bitcast<u32>(length[0]) + token % p.tokens;
  if (at >= p.capacity) { return; }
  let row = (token / p.tokens * p.capacity + at) * p.key_heads;
  if (head < p.heads + p.key_heads) {
    let to = (row + head - p.heads) * 2u * p.pairs + j;
    keys[to] = keys_t(turned_a);
    keys[to + p.pairs] = keys_t(turned_b);
  } else {
    let to = (row + head - p.heads - p.key_heads) * 2u * p.pairs + j;
    values[to] = values_t(a);
    values[to + p.pairs] = values_t(b);
  }`,
    ),
});
