import { defineKernel, linearMain, wideWorkgroup } from '../../device/kernel.js';
import { rowVectors, vectorHelpers } from '../row/row-lanes.wgsl.js';

/**
 * Rotates the pairs of each head and copies its other values, two units an invocation. A unit is one value, or 4
 * neighbours where everything divides by 4. With `together` an invocation does so for as many heads of a token: their
 * angles are read once, and more bytes are under way.
 *
 * Pair j stands at (start + j, start + j + pairs), or in an interleaved input at (start + 2j, start + 2j + 1). The
 * gradient is the inverse rotation with reading and writing places swapped.
 */
export const ropeKernel = defineKernel({
  name: 'rope',
  bindings: { x: 'read', cos_table: 'read', sin_table: 'read', positions: 'read', y: 'write' },
  // All but heads (of which `together` count as one), tokens and table_rows count units.
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
    const split = ['j', 'j + p.pairs'] as const;
    const interleaved = ['2u * j', '2u * j + 1u'] as const;
    const together = Number(constants['together']);
    const each = (write: (k: number) => string) => Array.from({ length: together }, (_, k) => write(k)).join('');
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
  let token = ${divide('head', 'p.heads')};
  // Neighbours turn neighbouring heads, so that together they read whole lines.
  let before = ${together === 1 ? 'head' : `head + token * p.heads * ${together - 1}u`};
  if (j >= p.pairs) {
    let others = p.columns - 2u * p.pairs;
    let copied = 2u * (j - p.pairs);
    for (var n = 0u; n < ${together}u; n++) {
      let first = (before + n * p.heads) * p.columns;
      for (var k = copied; k < min(copied + 2u, others); k++) {
        let other = first + select(k + 2u * p.pairs, k, k < p.start);
        y[other] = y_t(x[other]);
      }
    }
    return;
  }
  // Positions are data: one outside the table reads the nearest row that there is.
  let position = ${has('positions') ? 'u32(max(positions[token], 0))' : 'token % p.tokens'};
  let angle = min(position, p.table_rows - 1u) * p.pairs + j;
  let c = cos_table[angle];
  let s = ${constants['inverse'] ? '-' : ''}sin_table[angle];
${each(
  (k) => `
  let at${k} = (before + ${k}u * p.heads) * p.columns + p.start;
  let u${k} = F(x[at${k} + ${from[0]}]);
  let v${k} = F(x[at${k} + ${from[1]}]);`,
)}
${each(
  (k) => `
  let a${k} = ${unzip ? `F(u${k}.xz, v${k}.xz)` : `u${k}`};
  let b${k} = ${unzip ? `F(u${k}.yw, v${k}.yw)` : `v${k}`};
  let one${k} = a${k} * c - b${k} * s;
  let other${k} = b${k} * c + a${k} * s;
  y[at${k} + ${to[0]}] = y_t(${zip ? `F(one${k}.x, other${k}.x, one${k}.y, other${k}.y)` : `one${k}`});
  y[at${k} + ${to[1]}] = y_t(${zip ? `F(one${k}.z, other${k}.z, one${k}.w, other${k}.w)` : `other${k}`});`,
)}`,
      )
    );
  },
});
