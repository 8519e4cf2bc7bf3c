import { defineKernel, type KernelVariant, linearMain } from '@zebra/tensor';
import { CHUNK } from './gates.wgsl.js';

/** Params that all forms of the scan share. */
export const SCAN_PARAMS = {
  count: 'u32',
  length: 'u32',
  heads: 'u32',
  chunks: 'u32',
  rows: 'u32',
  cols: 'u32',
  u_offset: 'u32',
  u_stride: 'u32',
  u_group: 'u32',
  v_offset: 'u32',
  v_stride: 'u32',
  v_group: 'u32',
  r_offset: 'u32',
  r_stride: 'u32',
  r_group: 'u32',
  y_offset: 'u32',
  y_stride: 'u32',
  state_row: 'u32',
  state_column: 'u32',
  reverse: 'u32',
  scaled: 'u32',
  exclusive: 'u32',
  skips: 'u32',
} as const;

/** Vectors of a state's row that an invocation holds in registers. More would take LLVM-based drivers long to compile. */
const HELD = 4;

/**
 * The scan as a plain recurrence, one invocation a row of a head's state, no barrier: the form for CPU adapters. The
 * row passes through registers in pieces of 4·`HELD` columns, each of which walks all tokens and adds to y. See
 * `launchScan` for what it computes; which scan it is is data, so that few pipelines serve all.
 */
export const recurrentKernel = defineKernel({
  name: 'mamba2_recurrent',
  bindings: {
    u: 'read',
    v: 'read',
    r: 'read',
    gates: 'read',
    skip: 'read',
    state: 'write',
    edges: 'write',
    y: 'write',
  },
  params: SCAN_PARAMS,
  vectors: ({ constants }): Record<string, 4> => (constants['vector'] ? { v: 4, r: 4, gates: 4 } : { gates: 4 }),
  workgroup: 16,
  source: recurrentSource,
});

function recurrentSource({ constants, has }: KernelVariant): string {
  const width = constants['vector'] ? 4 : 1;
  const type = width === 4 ? 'vec4<f32>' : 'f32';
  const parts = Array.from({ length: HELD }, (_, j) => j);
  const each = (line: (j: number) => string) => parts.map((j) => `      ${line(j)}`).join('\n');
  // A line for every column that the invocation holds, where there is such a column.
  const lanes = (line: (lane: string, column: string) => string) =>
    parts
      .map((j) => {
        const lane = (k: number) => (width === 4 ? `s${j}[${k}]` : `s${j}`);
        const lines = Array.from({ length: width }, (_, k) => line(lane(k), `(piece * ${width}u + ${k}u)`)).join(' ');
        return `{ let piece = first + ${j}u; if (piece < pieces) { ${lines} } }`;
      })
      .join('\n');
  // In reverse the decay of a token meets the state only on the way to the token before it.
  const left = (lane: string) => `(${lane} * left_keep + ${lane} * left_decay)`;
  const leaving = `
    let left_keep = select(1.0, select(0.0, 1.0, pending < 0.0), p.reverse == 1u);
    let left_decay = select(0.0, pending, p.reverse == 1u);`;
  const stateAt = (column: string) => `state[state_at + ${column} * p.state_column]`;
  return linearMain(
    'p.count',
    /* wgsl */ `
  let row = i % p.rows;
  let h = (i / p.rows) % p.heads;
  let b = i / (p.rows * p.heads);
  let state_at = (b * p.heads + h) * p.rows * p.cols + row * p.state_row;
  let u_at = p.u_offset + (h / p.u_group) * p.rows + row + b * p.length * p.u_stride;
  let v_at = (p.v_offset + (h / p.v_group) * p.cols + b * p.length * p.v_stride) / ${width}u;
  let r_at = (p.r_offset + (h / p.r_group) * p.cols + b * p.length * p.r_stride) / ${width}u;
  let y_at = p.y_offset + h * p.rows + row + b * p.length * p.y_stride;
  let v_step = p.v_stride / ${width}u;
  let r_step = p.r_stride / ${width}u;
  let pieces = p.cols / ${width}u;
  let exclusive = p.exclusive == 1u;
  let skip_weight = select(0.0, f32(skip[h]), p.skips == 1u);
  for (var first = 0u; first < pieces; first += ${HELD}u) {
${each((j) => `var s${j} = ${type}();`)}
${each((j) => `let o${j} = min(first + ${j}u, pieces - 1u);`)}
${each((j) => `let m${j} = select(0.0, 1.0, first + ${j}u < pieces);`)}
    ${has('state') ? lanes((lane, column) => `${lane} = ${stateAt(column)};`) : ''}
    var pending = -1e-30;
    for (var step = 0u; step < p.length; step++) {
      let t = select(step, p.length - 1u - step, p.reverse == 1u);
      let gate = gates[(b * p.length + t) * p.heads + h];
${
  has('edges')
    ? `      if (t % ${CHUNK}u == select(0u, ${CHUNK - 1}u, p.reverse == 1u) || (step == 0u && p.reverse == 1u)) {
      let at = (((b * p.heads + h) * p.chunks + t / ${CHUNK}u) * p.rows + row) * p.cols;${leaving}
      ${lanes((lane, column) => `edges[at + ${column}] = ${left(lane)};`)}
    }`
    : ''
}
      let decay = select(gate.y, pending, p.reverse == 1u);
      let keep = select(0.0, 1.0, decay < 0.0);
      let value = f32(u[u_at + t * p.u_stride]);
      let input = value * select(1.0, gate.x, p.scaled == 1u);
      let vt = v_at + t * v_step;
      let rt = r_at + t * r_step;
      var sum = ${type}();
${each((j) => `let d${j} = s${j} * keep + s${j} * decay; s${j} = d${j} + input * ${type}(v[vt + o${j}]); sum += select(s${j}, d${j}, exclusive) * (${type}(r[rt + o${j}]) * m${j});`)}
      let at = y_at + t * p.y_stride;
      var total = ${width === 4 ? '(sum.x + sum.y) + (sum.z + sum.w)' : 'sum'};
      if (first == 0u) { total += skip_weight * value; } else { total += f32(y[at]); }
      y[at] = y_t(total);
      pending = gate.y;
    }
    ${has('state') ? `${leaving}\n    ${lanes((lane, column) => `${stateAt(column)} = ${left(lane)};`)}` : ''}
  }`,
  );
}
