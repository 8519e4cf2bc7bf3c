import { defineKernel } from '@zebra/tensor';

/** Rows of one block of the update: the sums over rows are added up block by block. */
export const BLOCK_ROWS = 64;

/** Columns of one workgroup of the update: a vector of four an invocation. */
export const GROUP_COLUMNS = 512;

/** Rows of one workgroup of the row products. */
export const GROUP_ROWS = 8;

/**
 * What the three kernels share. `state` holds, as float32: 0 the step as the update reads it; 1 the step as the other
 * two read it (no kernel writes what it reads); 2 the left reflector's factor, 3 its τ; 4 the right reflector's factor.
 * Steps are whole numbers far below 2²⁴, so float32 holds them.
 */
const REDUCE = /* wgsl */ `
var<workgroup> shared_sums: array<vec2<f32>, WORKGROUP>;

fn reduce(value: vec2<f32>, lid: u32) -> vec2<f32> {
  shared_sums[lid] = value;
  workgroupBarrier();
  for (var width = WORKGROUP / 2u; width > 0u; width /= 2u) {
    if (lid < width) { shared_sums[lid] += shared_sums[lid + width]; }
    workgroupBarrier();
  }
  let total = shared_sums[0];
  workgroupBarrier();
  return total;
}

struct Reflector { beta: f32, tau: f32, factor: f32 }

// I − τ·v·vᵀ with v = (1, factor·tail) takes (alpha, tail) to (beta, 0); squares is the sum of squares of the tail.
fn reflector(alpha: f32, squares: f32) -> Reflector {
  if (squares == 0.0) { return Reflector(alpha, 0.0, 0.0); }
  let size = sqrt(alpha * alpha + squares);
  let beta = select(-size, size, alpha < 0.0);
  return Reflector(beta, (beta - alpha) / beta, 1.0 / (alpha - beta));
}
`;

/** `k` in a kernel with barriers: a load from writable memory counts as uniform only this way. */
const UNIFORM_STEP = (slot: number) => /* wgsl */ `
  if (lid == 0u) { step_of_group = u32(state[${slot}]); }
  let k = workgroupUniformLoad(&step_of_group);`;

const HEAD = /* wgsl */ `
var<workgroup> step_of_group: u32;
@compute @workgroup_size(WORKGROUP)
fn main(@builtin(workgroup_id) wid: vec3<u32>, @builtin(local_invocation_index) lid: u32) {`;

/**
 * Step k, first: applies what step k − 1 left to do, A ← A − v·wᵀ − z·uᵀ, in rows and columns from k on, makes the left
 * reflector of column k (given in `column`, each workgroup on its own, since one reduction is cheaper than a dispatch),
 * and sums v'·A over every block of rows.
 */
export const updateKernel = defineKernel({
  name: 'bidiagonal-update',
  bindings: {
    state: 'write',
    column: 'read',
    pairs: 'read',
    row: 'read',
    a: 'write',
    sums: 'write',
    diagonal: 'write',
  },
  params: { rows: 'u32', columns: 'u32' },
  vectors: () => ({ pairs: 2, row: 2, a: 4, sums: 4 }),
  workgroup: GROUP_COLUMNS / 4,
  source: () => /* wgsl */ `
${REDUCE}
var<workgroup> rows_of_block: array<vec3<f32>, ${BLOCK_ROWS}>;
${HEAD}${UNIFORM_STEP(0)}
  if (k >= p.columns) { return; }
  let first = k + wid.y * ${BLOCK_ROWS}u;
  let quarter = p.columns / 4u;
  // The whole workgroup leaves, so the barriers below stay uniform.
  if (first >= p.rows || (wid.x + 1u) * ${GROUP_COLUMNS}u <= k) { return; }
  var squares = 0.0;
  for (var i = k + 1u + lid; i < p.rows; i += WORKGROUP) { squares += column[i] * column[i]; }
  let r = reflector(column[k], reduce(vec2<f32>(squares, 0.0), lid).x);
  for (var i = lid; i < ${BLOCK_ROWS}u; i += WORKGROUP) {
    let at = first + i;
    if (at < p.rows) { rows_of_block[i] = vec3<f32>(pairs[at], select(column[at] * r.factor, 1.0, at == k)); }
  }
  workgroupBarrier();
  // The last workgroup along the columns is always there.
  if (lid == 0u && wid.y == 0u && (wid.x + 1u) * ${GROUP_COLUMNS}u >= p.columns) {
    state[1] = f32(k);
    state[2] = r.factor;
    state[3] = r.tau;
    diagonal[k] = r.beta;
  }
  let c = wid.x * WORKGROUP + lid;
  if (c >= quarter || 4u * c + 3u < k) { return; }
  var w: vec4<f32>;
  var u: vec4<f32>;
  for (var e = 0u; e < 4u; e++) {
    let j = 4u * c + e;
    // row holds (w, row k − 1); u is 1 at k and the scaled row after it; columns before k are done with.
    if (j >= k) {
      w[e] = row[j].x;
      u[e] = select(row[j].y * state[4], 1.0, j == k);
    }
  }
  var total = vec4<f32>();
  let count = min(${BLOCK_ROWS}u, p.rows - first);
  for (var i = 0u; i < count; i++) {
    let at = (first + i) * quarter + c;
    let here = rows_of_block[i];
    let value = a[at] - here.x * w - here.y * u;
    a[at] = value;
    total += here.z * value;
  }
  sums[wid.y * quarter + c] = total;
}`,
});

/** Step k, second: w = τ·Σ over blocks, and row k after the left reflector, (w, row) interleaved, for columns after k. */
export const rowKernel = defineKernel({
  name: 'bidiagonal-row',
  bindings: { state: 'read', a: 'read', sums: 'read', row: 'write' },
  params: { rows: 'u32', columns: 'u32' },
  vectors: () => ({ row: 2 }),
  workgroup: 64,
  source: () => /* wgsl */ `
${HEAD}
  let k = u32(state[1]);
  let j = wid.x * WORKGROUP + lid;
  if (j <= k || j >= p.columns) { return; }
  let blocks = (p.rows - k + ${BLOCK_ROWS - 1}u) / ${BLOCK_ROWS}u;
  var total = 0.0;
  for (var b = 0u; b < blocks; b++) { total += sums[b * p.columns + j]; }
  let w = state[3] * total;
  row[j] = vec2<f32>(w, a[k * p.columns + j] - w);
}`,
});

/**
 * Step k, third: the right reflector of row k (each workgroup on its own), z = τ·(A·u − v·(w·u)) for rows after k, and
 * from them column k + 1 as the next step finds it. `pairs` gets (v, z).
 */
export const productKernel = defineKernel({
  name: 'bidiagonal-product',
  bindings: { state: 'write', a: 'read', row: 'read', column: 'write', pairs: 'write', superdiagonal: 'write' },
  params: { rows: 'u32', columns: 'u32' },
  vectors: () => ({ row: 2, pairs: 2 }),
  workgroup: 256,
  source: () => /* wgsl */ `
${REDUCE}
var<workgroup> products: array<f32, ${GROUP_ROWS} * WORKGROUP>;
${HEAD}${UNIFORM_STEP(1)}
  let first = k + 1u + wid.x * ${GROUP_ROWS}u;
  if (wid.x > 0u && first >= p.rows) { return; }
  let next = k + 1u;
  var sums = vec2<f32>();
  for (var j = next + 1u + lid; j < p.columns; j += WORKGROUP) { sums += row[j].y * vec2<f32>(row[j].y, row[j].x); }
  sums = reduce(sums, lid);
  var r = Reflector(0.0, 0.0, 0.0);
  var wu = 0.0;
  var w_next = 0.0;
  if (next < p.columns) {
    r = reflector(row[next].y, sums.x);
    w_next = row[next].x;
    wu = w_next + r.factor * sums.y;
  }
  if (wid.x == 0u && lid == 0u) {
    state[0] = f32(next);
    state[4] = r.factor;
    superdiagonal[k] = r.beta;
  }
  let count = min(${GROUP_ROWS}u, p.rows - min(first, p.rows));
  var dots: array<f32, ${GROUP_ROWS}>;
  for (var j = next + lid; j < p.columns; j += WORKGROUP) {
    let u = select(row[j].y * r.factor, 1.0, j == next);
    for (var i = 0u; i < count; i++) { dots[i] += u * a[(first + i) * p.columns + j]; }
  }
  for (var i = 0u; i < count; i++) { products[i * WORKGROUP + lid] = dots[i]; }
  workgroupBarrier();
  for (var width = WORKGROUP / 2u; width > 0u; width /= 2u) {
    if (lid < width) {
      for (var i = 0u; i < count; i++) { products[i * WORKGROUP + lid] += products[i * WORKGROUP + lid + width]; }
    }
    workgroupBarrier();
  }
  if (lid < count) {
    let at = first + lid;
    let v = column[at] * state[2];
    let z = r.tau * (products[lid * WORKGROUP] - v * wu);
    pairs[at] = vec2<f32>(v, z);
    if (next < p.columns) { column[at] = a[at * p.columns + next] - v * w_next - z; }
  }
}`,
});
