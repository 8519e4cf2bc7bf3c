import { defineKernel } from '../../device/kernel.js';
import {
  type MatrixArray,
  type MatrixUnitSizes,
  MatrixUnits,
  matrixDirectives,
} from '../../device/matrix-units.wgsl.js';
import { type Epilogue, eachCell, epilogueOf, finished, MATMUL_BINDINGS, MATMUL_PARAMS, range } from './common.wgsl.js';

/** Halves in a vector of 16 bytes, the unit in which tiles are fetched, kept and loaded as matrices. */
export const HALVES = 8;

/** Floats in such a vector. */
const FLOATS = 4;

/** How a workgroup cuts its share of the product: sizes in elements, all multiples of 16. */
export interface MatrixTile {
  /** Rows and columns of the output that a workgroup owns. */
  readonly rows: number;
  readonly columns: number;
  /** Steps along k that lie in workgroup memory at a time. */
  readonly step: number;
  /** Rows and columns that one subgroup owns. */
  readonly subgroupRows: number;
  readonly subgroupColumns: number;
}

/**
 * With `b2`, the columns of a tile are those of b, then as many of b2, and the output is silu(a · b) · (a · b2): for
 * b and b2 along k as vectors, subgroups as wide as a tile, and no other epilogue.
 */
const MATRIX_BINDINGS = { ...MATMUL_BINDINGS, b2: 'read' } as const;

/** A way to compute a product on the matrix units. */
export interface MatrixPlan extends MatrixTile {
  /** Tiles of the output that are worked on side by side: a column of so many shares B while it lies in the cache. */
  readonly group: number;
  /**
   * Tiles of each operand in workgroup memory: 1, with two barriers a step, or 2, of which one is filled while the
   * other is multiplied, with one barrier a step.
   */
  readonly buffers: 1 | 2;
  /** Fetch the next tiles into registers while the present ones are multiplied; otherwise only when they are due. */
  readonly ahead: boolean;
}

/** Everything that is compiled into a variant of the kernel. */
export interface MatrixConstants extends MatrixPlan, MatrixUnitSizes {
  /** Neighbours in the operand's memory lie along k. */
  readonly aAlongK: boolean;
  readonly bAlongK: boolean;
  /** The operand is bound as vectors of 8 halves, the output as vectors of 4 elements; otherwise as elements. */
  readonly aVectors: boolean;
  readonly bVectors: boolean;
  readonly cVectors: boolean;
}

/** Subgroups of a workgroup. */
export function matrixSubgroups(tile: MatrixTile): number {
  return (tile.rows / tile.subgroupRows) * (tile.columns / tile.subgroupColumns);
}

/** A tile of an operand in workgroup memory, as it lies in the operand's own memory: lines of neighbours. */
interface Staged {
  readonly lines: number;
  /** Vectors of a line, and from one line to the next. */
  readonly width: number;
  readonly pitch: number;
}

function staged(alongK: boolean, side: number, step: number): Staged {
  const [lines, length] = alongK ? [side, step] : [step, side];
  // One vector of padding a line: without it the rows of a matrix fall on the same banks, which costs half the speed.
  return { lines, width: length / HALVES, pitch: length / HALVES + 1 };
}

/** Vectors from one line to the next where a subgroup lays its results down to be written. */
const resultPitch = (tile: MatrixTile): number => tile.subgroupColumns / FLOATS + 1;

/** Vectors of 16 bytes of workgroup memory: the tiles of both operands and, later, of the results. */
function memoryVectors(c: MatrixConstants): number {
  const [a, b] = [staged(c.aAlongK, c.rows, c.step), staged(c.bAlongK, c.columns, c.step)];
  const tiles = a.lines * a.pitch + b.lines * b.pitch;
  return Math.max(c.buffers * tiles, matrixSubgroups(c) * c.matrixM * resultPitch(c));
}

/** Bytes of workgroup memory that a variant takes. */
export function matrixMemory(constants: MatrixConstants): number {
  return 16 * memoryVectors(constants);
}

/**
 * For GPUs with matrix units (`chromium-experimental-subgroup-matrix`): float16 operands, float32 sums. Tiles of A and
 * B go through workgroup memory in the order in which they lie in memory; a transposition is only another way to load
 * a matrix from there. The next tiles are fetched into registers while the present ones are multiplied.
 *
 * Edges: what lies outside of an operand is fetched as zero, so that every load of a matrix is inside of workgroup
 * memory (with robust access an outside one would silently read offset 0). Matrices have no element access, so results
 * go to workgroup memory too, and from there, scaled, converted and guarded, to the output.
 */
export const matrixMatmul = defineKernel({
  name: 'matmul_matrix',
  bindings: MATRIX_BINDINGS,
  params: MATMUL_PARAMS,
  directives: matrixDirectives,
  vectors: ({ constants }) => ({
    ...(constants['aVectors'] === true && { a: 4 as const }),
    ...(constants['bVectors'] === true && { b: 4 as const, b2: 4 as const }),
    ...(constants['cVectors'] === true && { c: 4 as const, bias: 4 as const, residual: 4 as const }),
  }),
  workgroup: ({ constants }) => {
    const c = constants as unknown as MatrixConstants;
    return c.lanes * matrixSubgroups(c);
  },
  source: (variant) => {
    const c = variant.constants as unknown as MatrixConstants;
    return source(c, new MatrixUnits(c, variant), epilogueOf(variant), variant.has('b2'));
  },
});

/** Where tiles and results lie. */
const MEMORY: MatrixArray = { name: 'memory', type: 'vec4<u32>' };

function source(c: MatrixConstants, units: MatrixUnits, epilogue: Epilogue, gated: boolean): string {
  const subgroups = matrixSubgroups(c);
  const threads = c.lanes * subgroups;
  const [a, b] = [staged(c.aAlongK, c.rows, c.step), staged(c.bAlongK, c.columns, c.step)];
  const operandA: Operand = { name: 'a', side: 'm', alongK: c.aAlongK, vectors: c.aVectors, staged: a, at: 0, threads };
  const bufferSize = a.lines * a.pitch + b.lines * b.pitch;
  const operandB: Operand = {
    name: 'b',
    side: 'n',
    alongK: c.bAlongK,
    vectors: c.bVectors,
    staged: b,
    at: a.lines * a.pitch,
    threads,
    gated,
  };
  const [down, across] = [c.subgroupRows / c.matrixM, c.subgroupColumns / c.matrixN];
  const operands = [operandA, operandB];
  const keepIn = (buffer: number) => operands.map((operand) => keep(operand, buffer * bufferSize)).join('\n');
  const fetchNext = operands.map((operand) => fetch(operand, c.step)).join('\n');
  // Written out, this loop made the compiler load all its matrices ahead and run out of registers.
  const multiply = (buffer: number) => `    for (var d = 0u; d < ${c.step / c.matrixK}u; d++) {
${range(across)
  .map((j) => loadMatrix(units, `b${j}`, 'Right', operandB, 'sub_n', j * c.matrixN, c.matrixK, buffer * bufferSize))
  .map((statement) => `      ${statement}`)
  .join('\n')}
${range(down)
  .map((i) => {
    const place = [i * c.matrixM, c.matrixK, buffer * bufferSize] as const;
    const load = loadMatrix(units, `a${i}`, 'Left', operandA, 'sub_m', ...place);
    return [load, ...range(across).map((j) => units.multiply(`sum${i}_${j}`, `a${i}`, `b${j}`))]
      .map((statement) => `      ${statement}`)
      .join('\n');
  })
  .join('\n')}
    }`;
  const write = c.buffers === 2 ? twoBuffers : c.ahead ? oneBuffer : oneBufferWhenDue;
  const steps = write({ step: c.step, fetchNext, keepIn, multiply });
  const sums = eachCell(down, across, (i, j) => `  ${units.declare(`sum${i}_${j}`)}`);
  const results = range(down)
    .map((i) => writeResults(c, units, i, across, gated))
    .join('\n');
  return /* wgsl */ `
${units.declarations()}
var<workgroup> memory: array<vec4<u32>, ${memoryVectors(c)}>;
${[operandA, operandB]
  .filter(({ vectors }) => !vectors)
  .map(({ name }) => gatherFunction(name))
  .join('')}
${c.cVectors ? storeVector(epilogue) : storeElements(epilogue)}

@compute @workgroup_size(${c.lanes}, ${subgroups})
fn main(@builtin(workgroup_id) wid: vec3<u32>, @builtin(num_workgroups) nwg: vec3<u32>, @builtin(local_invocation_id) local: vec3<u32>) {
  let tile = wid.x + wid.y * nwg.x;
  if (tile >= p.tiles) { return; }
  ${units.begin('local.x', 'nwg.x')}
${groupedOrigin(gated ? { ...c, columns: c.columns / 2 } : c)}
  let lid = local.y * ${c.lanes}u + local.x;
  let sub_m = (local.y % ${c.rows / c.subgroupRows}u) * ${c.subgroupRows}u;
  let sub_n = (local.y / ${c.rows / c.subgroupRows}u) * ${c.subgroupColumns}u;
${place(operandA)}
${place(operandB)}
${sums}
  var k = k_first;
${steps}
${results}
}`;
}

/** The parts of the loop along k. */
interface Steps {
  readonly step: number;
  /** Fetches the tiles at k into registers. */
  readonly fetchNext: string;
  /** Puts what was fetched into a buffer. */
  readonly keepIn: (buffer: number) => string;
  readonly multiply: (buffer: number) => string;
}

function oneBuffer({ step, fetchNext, keepIn, multiply }: Steps): string {
  return /* wgsl */ `${fetchNext}
  while (k < k_end) {
    workgroupBarrier();
${keepIn(0)}
    workgroupBarrier();
    k += ${step}u;
${fetchNext}
${multiply(0)}
  }`;
}

/** Fewer registers are alive while it multiplies; other workgroups on the same multiprocessor must cover the waits. */
function oneBufferWhenDue({ step, fetchNext, keepIn, multiply }: Steps): string {
  return /* wgsl */ `  while (k < k_end) {
${fetchNext}
    workgroupBarrier();
${keepIn(0)}
    workgroupBarrier();
    k += ${step}u;
${multiply(0)}
  }`;
}

/** Two steps a round, so that the place of each buffer is a constant. Tiles past the end are zeros. */
function twoBuffers({ step, fetchNext, keepIn, multiply }: Steps): string {
  const half = (buffer: number) => /* wgsl */ `${keepIn(1 - buffer)}
    k += ${step}u;
${fetchNext}
${multiply(buffer)}
    workgroupBarrier();`;
  // k is that of the tiles in registers: one step after those in the buffer that is multiplied.
  return /* wgsl */ `${fetchNext}
${keepIn(0)}
  k += ${step}u;
${fetchNext}
  workgroupBarrier();
  while (k < k_end + ${step}u) {
${half(0)}
    if (k >= k_end + ${step}u) { break; }
${half(1)}
  }`;
}

/** WGSL for the corner (m0, n0) of the tile, the starts of the matrices and the range of k, tiles taken in groups. */
function groupedOrigin({ rows, columns, group }: MatrixPlan): string {
  return /* wgsl */ `
  let across = (p.n + ${columns - 1}u) / ${columns}u;
  let down = (p.m + ${rows - 1}u) / ${rows}u;
  let z = tile / (across * down);
  let inside = tile % (across * down);
  let first_row = inside / (${group}u * across) * ${group}u;
  let group_rows = min(down - first_row, ${group}u);
  let in_group = inside % (${group}u * across);
  let m0 = (first_row + in_group % group_rows) * ${rows}u;
  let n0 = in_group / group_rows * ${columns}u;
  let batch = z / p.splits;
  let a_at = p.a_start + batch * p.a_batch;
  let b_at = p.b_start + batch * p.b_batch;
  let c_at = p.c_start + z * p.c_batch;
  let k_first = (z % p.splits) * p.chunk;
  let k_end = min(k_first + p.chunk, p.k);`;
}

interface Operand {
  readonly name: 'a' | 'b';
  /** Its dimension that is not k. */
  readonly side: 'm' | 'n';
  readonly alongK: boolean;
  readonly vectors: boolean;
  readonly staged: Staged;
  /** Its first vector in workgroup memory. */
  readonly at: number;
  readonly threads: number;
  /** The second half of its lines are those of another tensor, `${name}2`. */
  readonly gated?: boolean;
}

/** Lines that all invocations together fetch at once, and how often until the tile is there. */
function passes({ staged: { lines, width }, threads }: Operand): {
  readonly linesOfPass: number;
  readonly of: number[];
} {
  return { linesOfPass: threads / width, of: range((lines * width) / threads) };
}

/**
 * WGSL for the places in memory that an invocation fetches from, at k = 0, and the registers it fetches into. Lines and
 * columns past the edge of m or n are those at the edge: they only reach results that are not stored.
 */
function place(operand: Operand): string {
  const {
    name,
    side,
    alongK,
    vectors,
    staged: { lines, width },
    gated = false,
  } = operand;
  const { linesOfPass, of } = passes(operand);
  const column = `${side}0 / ${HALVES}u + ${name}_column`;
  // Vectors of a line fit it; of elements, so many are left from the column on.
  const across = vectors ? `min(${column}, p.${side} / ${HALVES}u - 1u)` : `(${column}) * ${HALVES}u`;
  const from = of.map((f) => {
    const skipped = gated && f >= of.length / 2 ? lines / 2 : 0;
    const line = `${name}_line + ${f * linesOfPass - skipped}u`;
    const at = alongK
      ? `min(${side}0 + ${line}, p.${side} - 1u) * p.${name}_${side} + ${name}_column${vectors ? '' : ` * ${HALVES}u`}`
      : `(${line}) * p.${name}_k + ${across}`;
    return `  let ${name}_from${f} = ${name}_at + ${at}; var fetched_${name}${f}: vec4<u32>;`;
  });
  return /* wgsl */ `
  let ${name}_line = ${lineOf(width)};
  let ${name}_column = lid % ${width}u;
${from.join('\n')}`;
}

/**
 * WGSL for the line that an invocation works on. Eight invocations write 128 bytes to workgroup memory at once: two
 * lines of four vectors do not share a bank only where they are four lines apart, as a line takes 80 bytes.
 */
function lineOf(width: number): string {
  const line = `(lid / ${width}u)`;
  return width === 4 ? `(${line} & ~7u) + (${line} & 1u) * 4u + ((${line} >> 1u) & 3u)` : line;
}

/** WGSL that fetches an invocation's share of the tile at k: zero past the end of k. */
function fetch(operand: Operand, step: number): string {
  const { name, side, alongK, vectors, gated = false } = operand;
  const { linesOfPass, of } = passes(operand);
  const from = (f: number): string => (gated && f >= of.length / 2 ? `${name}2` : name);
  const move = alongK ? (vectors ? `k / ${HALVES}u` : 'k') : `k * p.${name}_k`;
  const start = `${side}0 + ${name}_column * ${HALVES}u`;
  const left = alongK ? `k_end - (k + ${name}_column * ${HALVES}u)` : `p.${side} - min(p.${side}, ${start})`;
  const value = (f: number): string =>
    vectors ? `${from(f)}[${name}_from${f} + along]` : `gather_${name}(${name}_from${f} + along, ${left})`;
  const within = (f: number): string =>
    alongK ? `k + ${name}_column * ${HALVES}u < k_end` : `k + ${name}_line + ${f * linesOfPass}u < k_end`;
  return /* wgsl */ `    {
      let along = ${move};
      if (k + ${step}u <= k_end) {
${of.map((f) => `        fetched_${name}${f} = ${value(f)};`).join('\n')}
      } else {
${of
  .map(
    (f) => `        fetched_${name}${f} = vec4<u32>();
        if (${within(f)}) { fetched_${name}${f} = ${value(f)}; }`,
  )
  .join('\n')}
      }
    }`;
}

/** WGSL that puts what was fetched into workgroup memory, into the buffer that begins at a vector. */
function keep(operand: Operand, buffer: number): string {
  const {
    name,
    at,
    staged: { pitch },
  } = operand;
  const { linesOfPass, of } = passes(operand);
  return of
    .map((f) => {
      const line = `(${name}_line + ${f * linesOfPass}u) * ${pitch}u`;
      return `    memory[${buffer + at}u + ${line} + ${name}_column] = fetched_${name}${f};`;
    })
    .join('\n');
}

/** WGSL that loads the matrix of `depth` along k that is `side` past the subgroup's own corner, and the d-th in k. */
function loadMatrix(
  units: MatrixUnits,
  matrix: string,
  type: 'Left' | 'Right',
  operand: Operand,
  corner: string,
  side: number,
  depth: number,
  buffer: number,
): string {
  const {
    alongK,
    at,
    staged: { pitch },
  } = operand;
  const first = alongK
    ? `${corner} * ${pitch}u + d * ${depth / HALVES}u + ${buffer + at + side * pitch}u`
    : `${corner} / ${HALVES}u + d * ${depth * pitch}u + ${buffer + at + side / HALVES}u`;
  // Lines of A along k are its rows; lines of B along k are its columns.
  const order = alongK === (type === 'Left') ? 'row_major' : 'col_major';
  return units.load(matrix, type, order, MEMORY, first, `${pitch}u`);
}

/** WGSL that writes the results of one row of matrices: through the subgroup's part of workgroup memory. */
function writeResults(c: MatrixConstants, units: MatrixUnits, i: number, across: number, gated: boolean): string {
  const pitch = resultPitch(c);
  const width = c.subgroupColumns / FLOATS / (gated ? 2 : 1);
  const read = (column: string) => `bitcast<vec4<f32>>(memory[own + row * ${pitch}u + ${column}])`;
  // exp overflows float32 past 88, and e^-87 is far below what silu keeps beside 1.
  const value = gated
    ? `gate / (1.0 + exp(min(-gate, vec4<f32>(87.0)))) * ${read(`column + ${width}u`)}`
    : read('column');
  const rounds = (c.matrixM * width) / c.lanes;
  return /* wgsl */ `  workgroupBarrier();
  {
    let own = local.y * ${c.matrixM * pitch}u;
${range(across)
  .map((j) => `    ${units.store(`sum${i}_${j}`, MEMORY, `own + ${(j * c.matrixN) / FLOATS}u`, `${pitch}u`)}`)
  .join('\n')}
    workgroupBarrier();
    for (var u = 0u; u < ${rounds}u; u++) {
      let unit = u * ${c.lanes}u + local.x;
      let row = unit / ${width}u;
      let column = unit % ${width}u;
${gated ? `      let gate = ${read('column')};\n` : ''}      let value = ${value};
      store(m0 + sub_m + ${i * c.matrixM}u + row, n0 + sub_n + column * ${FLOATS}u, c_at, value);
    }
  }`;
}

/** WGSL function that reads `count` (at most 8) neighbouring halves as one vector, filled up with zeros. */
function gatherFunction(name: string): string {
  return /* wgsl */ `
fn gather_${name}(at: u32, count: u32) -> vec4<u32> {
  var v = vec4<u32>();
  for (var i = 0u; i < 4u; i++) {
    var pair = vec2<f16>();
    if (2u * i < count) { pair.x = ${name}[at + 2u * i]; }
    if (2u * i + 1u < count) { pair.y = ${name}[at + 2u * i + 1u]; }
    v[i] = bitcast<u32>(pair);
  }
  return v;
}`;
}

/** WGSL function that writes four neighbours of a row; the columns are a multiple of four. */
function storeVector(epilogue: Epilogue): string {
  return /* wgsl */ `
fn store(m: u32, n: u32, c_at: u32, value: vec4<f32>) {
  if (m >= p.m || n >= p.n) { return; }
  let i = c_at + m * p.c_m + n / ${FLOATS}u;
  c[i] = ${finished('value', `p.bias_start + n / ${FLOATS}u`, epilogue, 'vec4<f32>')};
}`;
}

/** WGSL function that writes four neighbours of a row, as far as they are inside of the output. */
function storeElements(epilogue: Epilogue): string {
  return /* wgsl */ `
fn store(m: u32, n: u32, c_at: u32, value: vec4<f32>) {
  if (m >= p.m) { return; }
  for (var e = 0u; e < ${FLOATS}u; e++) {
    if (n + e >= p.n) { return; }
    let i = c_at + m * p.c_m + n + e;
    c[i] = ${finished('value[e]', 'p.bias_start + n + e', epilogue)};
  }
}`;
}
