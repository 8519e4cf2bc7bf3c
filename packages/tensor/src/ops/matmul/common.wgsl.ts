/**
 * Parameters that all matmul kernels share. Every matrix is given by a start and strides in elements, so that one
 * pipeline serves every shape, batch and view (and, in the kernels where it costs nothing, every transposition).
 *
 * The sum over k is cut into `splits` pieces of `chunk`; piece s of matrix z goes to output matrix z · splits + s.
 */
export const MATMUL_PARAMS = {
  m: 'u32',
  n: 'u32',
  k: 'u32',
  splits: 'u32',
  chunk: 'u32',
  tiles: 'u32',
  a_start: 'u32',
  a_batch: 'u32',
  a_m: 'u32',
  a_k: 'u32',
  b_start: 'u32',
  b_batch: 'u32',
  b_k: 'u32',
  b_n: 'u32',
  c_start: 'u32',
  c_batch: 'u32',
  c_m: 'u32',
  c_n: 'u32',
  alpha: 'f32',
} as const;

/** WGSL that finds, from the index `tile`, the corner (m0, n0), the starts of the matrices and the range of k. */
export function tileOrigin(rows: number, columns: number): string {
  return /* wgsl */ `
  let across = (p.n + ${columns - 1}u) / ${columns}u;
  let down = (p.m + ${rows - 1}u) / ${rows}u;
  let m0 = ((tile / across) % down) * ${rows}u;
  let n0 = (tile % across) * ${columns}u;
  let z = tile / (across * down);
  let batch = z / p.splits;
  let a_at = p.a_start + batch * p.a_batch;
  let b_at = p.b_start + batch * p.b_batch;
  let c_at = p.c_start + z * p.c_batch;
  let k_first = (z % p.splits) * p.chunk;
  let k_end = min(k_first + p.chunk, p.k);`;
}

/** WGSL function `store(m, n, c_at, value)` that writes one element of the output, or adds to it, within its bounds. */
export function storeFunction(accumulate: boolean): string {
  return /* wgsl */ `
fn store(m: u32, n: u32, c_at: u32, value: f32) {
  if (m >= p.m || n >= p.n) { return; }
  let i = c_at + m * p.c_m + n * p.c_n;
  c[i] = c_t(p.alpha * value${accumulate ? ' + f32(c[i])' : ''});
}`;
}

/** 0, 1, … count − 1. */
export const range = (count: number): number[] => Array.from({ length: count }, (_, index) => index);

/** Writes a line of WGSL for each pair of row and column of a register tile. */
export function eachCell(rows: number, columns: number, line: (row: number, column: number) => string): string {
  return range(rows)
    .map((row) =>
      range(columns)
        .map((column) => line(row, column))
        .join(' '),
    )
    .join('\n');
}
