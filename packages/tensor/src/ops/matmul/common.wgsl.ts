import type { KernelVariant } from '../../device/kernel.js';

/** What all matmul kernels bind: the last two where a product is added to something on its way out. */
export const MATMUL_BINDINGS = { a: 'read', b: 'read', c: 'write', bias: 'read', residual: 'read' } as const;

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
  // Of the bias only the stride along one of the two is not 0; the residual lies as the output does.
  bias_start: 'u32',
  bias_m: 'u32',
  bias_n: 'u32',
  residual_start: 'u32',
  alpha: 'f32',
} as const;

/** What becomes of a product's element before it is written. */
export interface Epilogue {
  /** It is added to what is there. */
  readonly accumulate: boolean;
  readonly bias: boolean;
  readonly residual: boolean;
}

/** The epilogue of a variant of a kernel with {@link MATMUL_BINDINGS}. */
export function epilogueOf({ constants, has }: KernelVariant): Epilogue {
  return { accumulate: constants['accumulate'] === true, bias: has('bias'), residual: has('residual') };
}

/** WGSL for the finished value of an element (or `vec4` of four) at index `i` of the output. */
export function finished(value: string, biasAt: string, epilogue: Epilogue, type: 'f32' | 'vec4<f32>' = 'f32'): string {
  const terms = [
    `p.alpha * ${value}`,
    ...(epilogue.bias ? [`${type}(bias[${biasAt}])`] : []),
    ...(epilogue.residual ? [`${type}(residual[i - p.c_start + p.residual_start])`] : []),
    ...(epilogue.accumulate ? [`${type}(c[i])`] : []),
  ];
  return `c_t(${terms.join(' + ')})`;
}

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

/** WGSL function `write(i, m, n, value)` that finishes one element of the output and writes it at index i. */
export function writeFunction(epilogue: Epilogue): string {
  return /* wgsl */ `
fn write(i: u32, m: u32, n: u32, value: f32) {
  c[i] = ${finished('value', 'p.bias_start + m * p.bias_m + n * p.bias_n', epilogue)};
}`;
}

/** WGSL function `store(m, n, c_at, value)` that finishes one element of the output and writes it, within its bounds. */
export function storeFunction(epilogue: Epilogue): string {
  return /* wgsl */ `${writeFunction(epilogue)}
fn store(m: u32, n: u32, c_at: u32, value: f32) {
  if (m >= p.m || n >= p.n) { return; }
  write(c_at + m * p.c_m + n * p.c_n, m, n, value);
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
