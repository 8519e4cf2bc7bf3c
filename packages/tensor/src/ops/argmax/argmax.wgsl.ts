import { defineKernel, linearMain } from '../../device/kernel.js';
import { rowLanesMain, rowReduction, rowWorkgroup } from '../row/row-lanes.wgsl.js';

// What stands for the column of a value that is not finite; it wins over every other.
const BAD = '0xfffffffeu';
// A candidate: the bits of a value, and its column; NONE where a lane met no column. The lower column wins a tie.
const NONE = '0xffffffffu';
const CANDIDATES = `
fn better(value: f32, column: u32, best: f32, best_column: u32) -> bool {
  if (column == ${NONE}) { return false; }
  if (best_column == ${NONE}) { return true; }
  return value > best || (value == best && column < best_column);
}
fn better_of(a: vec2<u32>, b: vec2<u32>) -> vec2<u32> {
  return select(a, b, better(bitcast<f32>(b.x), b.y, bitcast<f32>(a.x), a.y));
}`;

/**
 * The largest value of each piece of each row: its column, and the value too where `values` is bound. A row of this
 * kernel is a piece: `p.units` columns of a row of `p.columns`, the last one shorter.
 */
export const pieceKernel = defineKernel({
  name: 'argmax',
  bindings: { x: 'read', columns: 'write', values: 'write' },
  params: { rows: 'u32', units: 'u32', pieces: 'u32', columns: 'u32' },
  workgroup: rowWorkgroup,
  source: (variant) =>
    CANDIDATES +
    rowReduction(variant, 'row_best', 'vec2<u32>', 'better_of(a, b)') +
    rowLanesMain(
      variant,
      `
  let offset = row % p.pieces * p.units;
  let start = row / p.pieces * p.columns + offset;
  let length = min(end, p.columns - min(offset, p.columns));
  var best = 0.0;
  var best_column = ${NONE};
  for (var c = lane; c < length; c += LANES) {
    let value = f32(x[start + c]);
${
  variant.constants['finite'] === true
    ? `    // By its bits: a compiler may take it that there is no NaN.
    let bits = bitcast<u32>(value);
    if ((bits & 0x7fffffffu) > 0x7f800000u || bits == 0x7f800000u) {
      best = bitcast<f32>(bits & 0x7f800000u);
      best_column = ${BAD};
      continue;
    }`
    : ''
}
    if (best_column == ${NONE} || value > best) { best = value; best_column = offset + c; }
  }
  let winner = row_best(vec2<u32>(bitcast<u32>(best), best_column), lid);
  if (inside && lane == 0u) {
    columns[row] = ${variant.constants['finite'] === true ? `select(columns_t(min(winner.y, p.columns - 1u)), -1, winner.y == ${BAD})` : 'columns_t(min(winner.y, p.columns - 1u))'};
${variant.has('values') ? '    values[row] = bitcast<f32>(winner.x);' : ''}
  }`,
    ),
});

/** The best of the pieces of each row. */
export const mergeKernel = defineKernel({
  name: 'argmax_merge',
  bindings: { values: 'read', columns: 'read', y: 'write' },
  params: { rows: 'u32', pieces: 'u32' },
  source: () =>
    linearMain(
      'p.rows',
      `
  let first = i * p.pieces;
  var best = first;
  for (var k = first + 1u; k < first + p.pieces; k++) {
    // Pieces come in the order of their columns, so only a larger value wins.
    if (values[k] > values[best]) { best = k; }
  }
  y[i] = columns[best];`,
    ),
});
