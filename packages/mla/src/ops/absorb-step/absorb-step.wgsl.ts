import { defineKernel, linearMain } from '@zebra/tensor';
import { vectorsOf } from '../vectors.js';

/**
 * What a step of decoding does between its projections and attention: queries are rotated and taken into the latent
 * space, [Σ_i q[i] · W_UK[i, ·] | rotated part], and the token's row [latent | rotated key] goes into the cache. One
 * unit of 1 or 4 values an invocation; the row of the cache counts as one more head.
 */
export const absorbStepKernel = defineKernel({
  name: 'mla_absorb_step',
  bindings: {
    q: 'read',
    down: 'read',
    weight: 'read',
    norm: 'read',
    cos_table: 'read',
    sin_table: 'read',
    positions: 'read',
    length: 'read',
    y: 'write',
    rows: 'write',
  },
  params: {
    count: 'u32',
    heads: 'u32',
    group: 'u32',
    up: 'u32',
    nope: 'u32',
    /** Units of a latent and of a whole row. */
    latent: 'u32',
    units: 'u32',
    /** Elements: of a head's query, of a row of `down`, and before the latent there. */
    query: 'u32',
    down_stride: 'u32',
    down_start: 'u32',
    pairs: 'u32',
    table_rows: 'u32',
    capacity: 'u32',
    eps: 'f32',
  },
  vectors: vectorsOf('weight', 'y', 'rows'),
  source: ({ constants, has }) => {
    const width = constants['width'] === 4 ? 4 : 1;
    const type = width === 4 ? 'vec4<f32>' : 'f32';
    const each = (value: (e: string) => string) =>
      `${type}(${Array.from({ length: width }, (_, e) => value(`${e}u`)).join(', ')})`;
    /** Element `c` of the rotated part that begins at `start`: pairs stand interleaved there and come out half-split. */
    const rotate = (name: string, binding: string) => /* wgsl */ `
fn ${name}(start: u32, c: u32, angle: u32) -> f32 {
  let j = c % p.pairs;
  let a = f32(${binding}[start + 2u * j]);
  let b = f32(${binding}[start + 2u * j + 1u]);
  let x = cos_table[angle + j];
  let s = sin_table[angle + j];
  return select(b * x + a * s, a * x - b * s, c < p.pairs);
}`;
    return /* wgsl */ `${rotate('rotated_query', 'q')}${rotate('rotated_key', 'down')}
${linearMain(
  'p.count',
  /* wgsl */ `
  let c = i % p.units;
  let head = i / p.units % (p.heads + 1u);
  let b = i / (p.units * (p.heads + 1u));
  // Positions are data: one outside the table reads the nearest row that there is.
  let position = ${has('positions') ? 'u32(max(positions[b], 0))' : '0u'};
  let angle = min(position, p.table_rows - 1u) * p.pairs;
  let beyond = (c - p.latent) * ${width}u;
  if (head == p.heads) {
    let first = b * p.down_stride + p.down_start;
    let at = bitcast<u32>(length[0]);
    if (at >= p.capacity) { return; }
    let to = (b * p.capacity + at) * p.units + c;
    if (c >= p.latent) {
      rows[to] = rows_t(${each((e) => `rotated_key(first + p.latent * ${width}u, beyond + ${e}, angle)`)});
      return;
    }
    var row = ${each((e) => `f32(down[first + c * ${width}u + ${e}])`)};
${
  has('norm')
    ? `    var squares = 0.0;
    for (var j = 0u; j < p.latent * ${width}u; j++) { let v = f32(down[first + j]); squares += v * v; }
    row *= inverseSqrt(squares / f32(p.latent * ${width}u) + p.eps) * ${each((e) => `f32(norm[c * ${width}u + ${e}])`)};`
    : ''
}
    rows[to] = rows_t(row);
    return;
  }
  let query = (b * p.heads + head) * p.query;
  let to = (b * p.heads + head) * p.units + c;
  if (c >= p.latent) {
    y[to] = y_t(${each((e) => `rotated_query(query + p.nope, beyond + ${e}, angle)`)});
    return;
  }
  var sum = ${type}();
  var w = head / p.group * p.up * p.latent + c;
  for (var j = 0u; j < p.nope; j++) {
    sum += f32(q[query + j]) * ${type}(weight[w]);
    w += p.latent;
  }
  y[to] = y_t(sum);`,
)}`;
  },
});
