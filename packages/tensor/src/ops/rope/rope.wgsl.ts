import { defineKernel, linearMain, wideWorkgroup } from '../../device/kernel.js';
import { rowVectors, vectorHelpers } from '../row/row-lanes.wgsl.js';

/**
 * Rotates the pairs of each head and copies its other values, two units an invocation. A unit is one value, or 4
 * neighbours where everything divides by 4.
 *
 * Pair j stands at (start + j, start + j + pairs), or in an interleaved input at (start + 2j, start + 2j + 1). The
 * gradient is the inverse rotation with reading and writing places swapped.
 */
export const ropeKernel = defineKernel({
  name: 'rope',
  bindings: { x: 'read', cos_table: 'read', sin_table: 'read', positions: 'read', y: 'write' },
  // All but heads, tokens and table_rows count units.
  params: {
    count: 'u32',
    items: 'u32',
    heads: 'u32',
    tokens: 'u32',
    columns: 'u32',
    start: 'u32',
    pairs: 'u32',
    table_rows: 'u32',
  },
  vectors: rowVectors('x', 'cos_table', 'sin_table', 'y'),
  workgroup: wideWorkgroup,
  source: ({ constants, has }) => {
    const split = ['at + j', 'at + j + p.pairs'] as const;
    const interleaved = ['at + 2u * j', 'at + 2u * j + 1u'] as const;
    const input = constants['interleaved'] ? interleaved : split;
    const [from, to] = constants['inverse'] ? [split, input] : [input, split];
    // Two neighbouring vectors of an interleaved input hold four pairs.
    const zipped = constants['width'] === 4;
    const unzip = zipped && from === interleaved;
    const zip = zipped && to === interleaved;
    // A division takes a GPU some twenty instructions, and there is little else to do here.
    const divide = (value: string, by: string) =>
      constants['powers'] ? `(${value} >> firstTrailingBit(${by}))` : `(${value} / ${by})`;
    const remainder = (value: string, by: string) =>
      constants['powers'] ? `(${value} & (${by} - 1u))` : `(${value} % ${by})`;
    return (
      vectorHelpers(constants['width']) +
      linearMain(
        'p.count',
        `
  let j = ${remainder('i', 'p.items')};
  let head = ${divide('i', 'p.items')};
  let first = head * p.columns;
  if (j >= p.pairs) {
    let others = p.columns - 2u * p.pairs;
    let copied = 2u * (j - p.pairs);
    for (var k = copied; k < min(copied + 2u, others); k++) {
      let other = first + select(k + 2u * p.pairs, k, k < p.start);
      y[other] = y_t(x[other]);
    }
    return;
  }
  let token = ${divide('head', 'p.heads')};
  // Positions are data: one outside the table reads the nearest row that there is.
  let position = ${has('positions') ? 'u32(max(positions[token], 0))' : 'token % p.tokens'};
  let angle = min(position, p.table_rows - 1u) * p.pairs + j;
  let c = cos_table[angle];
  let s = ${constants['inverse'] ? '-' : ''}sin_table[angle];
  let at = first + p.start;
  let u = F(x[${from[0]}]);
  let v = F(x[${from[1]}]);
  let a = ${unzip ? 'F(u.xz, v.xz)' : 'u'};
  let b = ${unzip ? 'F(u.yw, v.yw)' : 'v'};
  let turned_a = a * c - b * s;
  let turned_b = b * c + a * s;
  y[${to[0]}] = y_t(${zip ? 'F(turned_a.x, turned_b.x, turned_a.y, turned_b.y)' : 'turned_a'});
  y[${to[1]}] = y_t(${zip ? 'F(turned_a.z, turned_b.z, turned_a.w, turned_b.w)' : 'turned_b'});`,
      )
    );
  },
});
