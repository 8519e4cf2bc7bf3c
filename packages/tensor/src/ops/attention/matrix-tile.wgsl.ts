import type { MatrixArray, MatrixUnitSizes, MatrixUnits } from '../../device/matrix-units.wgsl.js';
import type { MaskKind } from './mask.wgsl.js';

/** How a workgroup of the kernels for matrix units cuts its share: sizes in elements, multiples of 16. */
export interface MatrixTile {
  /** Queries (or keys, in the gradient of keys and values) that a workgroup owns: a multiple of the lanes. */
  readonly rows: number;
  /** Rows of the other side that lie in workgroup memory at a time. */
  readonly step: number;
  readonly subgroups: number;
  /** Rows of scores that a subgroup computes; the subgroups beyond rows / scoreRows share a step's columns. */
  readonly scoreRows: number;
  /** Buffers for the rows of the other side, 1 or 2: with two the gradients need two barriers a step instead of four. */
  readonly buffers: number;
  /** The next rows of the other side are fetched into registers while the present ones are multiplied. */
  readonly prefetch: boolean;
}

/** Everything that is compiled into a variant of these kernels. */
export interface MatrixConstants extends MatrixTile, MatrixUnitSizes {
  readonly keySize: number;
  readonly valueSize: number;
  readonly valueWidth: number;
  readonly mask: MaskKind;
}

/** Halves and floats in a vector of 16 bytes, the unit of workgroup memory. */
export const HALVES = 8;
export const FLOATS = 4;

/** All workgroup memory but a few words: matrices of either type lie in it. */
const MEMORY: MatrixArray = { name: 'memory', type: 'vec4<u32>' };

export const BARRIER = 'workgroupBarrier();';

const range = (n: number): number[] => Array.from({ length: n }, (_, i) => i);

/** Joins what a function writes for 0 … n − 1. */
export const each = (n: number, write: (i: number) => string, separator = '\n'): string =>
  range(n).map(write).join(separator);

/** Vectors from one row to the next: one of padding, so that the rows of a matrix lie on different banks. */
export const halfPitch = (elements: number): number => elements / HALVES + 1;
export const floatPitch = (elements: number): number => elements / FLOATS + 1;

/** What follows from a tile. */
export function shareOf(c: MatrixConstants) {
  const threads = c.lanes * c.subgroups;
  /** Invocations that share a row where elements are handled one by one; subgroups that share the rows of a sum. */
  const parts = threads / c.rows;
  const scoreBands = c.rows / c.scoreRows;
  const scoreColumns = (c.step * scoreBands) / c.subgroups;
  return {
    threads,
    parts,
    scoreBands,
    scoreColumns,
    /** Matrices of scores of a subgroup. */
    down: c.scoreRows / c.matrixM,
    across: scoreColumns / c.matrixN,
    /** Rows of matrices in the sums of a subgroup: it owns as many rows of a sum as it has lanes. */
    sumsDown: c.lanes / c.matrixM,
    /** Vectors that results need on their way out, a column of matrices of each subgroup at a time. */
    results: c.rows * floatPitch(c.matrixN * parts),
  };
}

/** Whether a tile cuts without remainder. `sums` are the sizes of the rows that are summed up. */
export function cutsEvenly(c: MatrixConstants, sums: readonly number[]): boolean {
  const { parts, scoreColumns } = shareOf(c);
  const whole = (n: number, of: number) => n > 0 && n % of === 0;
  return (
    [c.keySize, c.valueSize, c.step, c.scoreRows, scoreColumns].every((n) => whole(n, 16)) &&
    whole(c.valueWidth, HALVES) &&
    whole(c.rows, c.lanes) &&
    whole(c.rows, c.scoreRows) &&
    whole(parts, 1) &&
    whole(c.step / parts, HALVES) &&
    sums.every((n) => whole(n / parts, 16)) &&
    c.lanes * c.subgroups <= 256
  );
}

/** WGSL for the places of an invocation. Rows of neighbouring invocations are neighbours: other banks, no shuffles. */
export function places(c: MatrixConstants): string {
  const { scoreBands, scoreColumns } = shareOf(c);
  return /* wgsl */ `
  let lid = local.y * ${c.lanes}u + local.x;
  let row = lid % ${c.rows}u;
  let part = lid / ${c.rows}u;
  let score_row = local.y % ${scoreBands}u * ${c.scoreRows}u;
  let score_column = local.y / ${scoreBands}u * ${scoreColumns}u;
  let sum_row = local.y % ${c.rows / c.lanes}u * ${c.lanes}u;
  let factor = p.scale * LOG2E;`;
}

/** Rows of a tensor on their way through registers to workgroup memory. */
export interface Lines {
  /** The binding, of vectors of 8 halves. */
  readonly name: string;
  readonly lines: number;
  /** Halves of a line. */
  readonly size: number;
  readonly threads: number;
  /** WGSL for the vector in the binding where row `index` begins. */
  readonly address: (index: string) => string;
}

const vectorsOf = ({ lines, size }: Lines): number => (lines * size) / HALVES;
const passesOf = (l: Lines): number => Math.ceil(vectorsOf(l) / l.threads);

/** WGSL that declares the registers of {@link fetchLines}. */
export const declareLines = (l: Lines): string =>
  each(passesOf(l), (f) => `var fetched_${l.name}${f}: vec4<u32>;`, ' ');

/** WGSL for pass `f` over the vectors of a tile: `line`, `column`, and a condition where there are fewer. */
function pass(l: Lines, f: number, body: string): string {
  const width = l.size / HALVES;
  const some = (f + 1) * l.threads > vectorsOf(l) ? `if (lid < ${vectorsOf(l) - f * l.threads}u) ` : '';
  const item = `(lid + ${f * l.threads}u)`;
  return `${some}{ let line = ${item} / ${width}u; let column = ${item} % ${width}u; ${body} }`;
}

/** WGSL that fetches an invocation's share of the rows from `first` on; zeros at and past `end`. */
export const fetchLines = (l: Lines, first: string, end: string): string =>
  each(passesOf(l), (f) =>
    pass(
      l,
      f,
      `let index = ${first} + line; var x = vec4<u32>(); if (index < ${end}) { x = ${l.name}[${l.address('index')} + column]; } fetched_${l.name}${f} = x;`,
    ),
  );

/** WGSL that puts what was fetched into workgroup memory. */
export const keepLines = (l: Lines, at: string): string =>
  each(passesOf(l), (f) =>
    pass(l, f, `memory[${at} + line * ${halfPitch(l.size)}u + column] = fetched_${l.name}${f};`),
  );

/** WGSL that loads the rows a subgroup owns as matrices `<name><i>_<k>`: through the start of workgroup memory. */
export function loadOwn(c: MatrixConstants, units: MatrixUnits, l: Lines, first: string, end: string): string {
  const pitch = halfPitch(l.size);
  return /* wgsl */ `
  ${BARRIER}
  for (var item = lid; item < ${vectorsOf(l)}u; item += ${l.threads}u) {
    let line = item / ${l.size / HALVES}u;
    let column = item % ${l.size / HALVES}u;
    let index = ${first} + line;
    var x = vec4<u32>();
    if (index < ${end}) { x = ${l.name}[${l.address('index')} + column]; }
    memory[line * ${pitch}u + column] = x;
  }
  ${BARRIER}
  ${units.each(shareOf(c).down, (i) =>
    units.each(l.size / c.matrixK, (k) =>
      units.load(
        `${l.name}${i}_${k}`,
        'Left',
        'row_major',
        MEMORY,
        `(score_row + ${i * c.matrixM}u) * ${pitch}u + ${(k * c.matrixK) / HALVES}u`,
        `${pitch}u`,
      ),
    ),
  )}`;
}

/** WGSL: `into<i>_<j>` += own · otherᵀ for the scores of a subgroup. `other` lies at `at` in workgroup memory. */
export function scores(
  c: MatrixConstants,
  units: MatrixUnits,
  into: string,
  own: string,
  at: string,
  size: number,
): string {
  const { down, across } = shareOf(c);
  const pitch = halfPitch(size);
  return units.each(size / c.matrixK, (k) =>
    units.each(across, (j) => {
      const offset = `${at} + (score_column + ${j * c.matrixN}u) * ${pitch}u + ${(k * c.matrixK) / HALVES}u`;
      return `{ ${units.load('other', 'Right', 'col_major', MEMORY, offset, `${pitch}u`)}
      ${units.each(down, (i) => units.multiply(`${into}${i}_${j}`, `${own}${i}_${k}`, 'other'))} }`;
    }),
  );
}

/** WGSL that lays a subgroup's scores down in workgroup memory. */
export function storeScores(c: MatrixConstants, units: MatrixUnits, from: string, at: number): string {
  const { down, across } = shareOf(c);
  const pitch = floatPitch(c.step);
  return units.each(down, (i) =>
    units.each(across, (j) => {
      const offset = `${at}u + (score_row + ${i * c.matrixM}u) * ${pitch}u + (score_column + ${j * c.matrixN}u) / ${FLOATS}u`;
      return units.store(`${from}${i}_${j}`, MEMORY, offset, `${pitch}u`);
    }),
  );
}

/** WGSL: `into<i>_<n>` += weights · other, both in workgroup memory: [rows, step] · [step, size]. */
export function accumulate(
  c: MatrixConstants,
  units: MatrixUnits,
  into: string,
  weightsAt: number,
  otherAt: string,
  size: number,
): string {
  const { parts, sumsDown } = shareOf(c);
  const [weightsPitch, pitch] = [halfPitch(c.step), halfPitch(size)];
  const weights = units.each(sumsDown, (i) => {
    const offset = `${weightsAt}u + (sum_row + ${i * c.matrixM}u) * ${weightsPitch}u + d * ${c.matrixK / HALVES}u`;
    return units.load(`weights${i}`, 'Left', 'row_major', MEMORY, offset, `${weightsPitch}u`);
  });
  const products = units.each(size / parts / c.matrixN, (n) => {
    const offset = `${otherAt} + d * ${c.matrixK * pitch}u + part * ${size / parts / HALVES}u + ${(n * c.matrixN) / HALVES}u`;
    return `{ ${units.load('value', 'Right', 'row_major', MEMORY, offset, `${pitch}u`)}
      ${units.each(sumsDown, (i) => units.multiply(`${into}${i}_${n}`, `weights${i}`, 'value'))} }`;
  });
  // Written out, such a loop makes the compiler load all its matrices ahead and run out of registers.
  return `for (var d = 0u; d < ${c.step / c.matrixK}u; d++) {\n${weights}\n${products}\n}`;
}

/** WGSL that declares the sums `<name><i>_<n>`. */
export const declareSums = (c: MatrixConstants, units: MatrixUnits, name: string, size: number): string =>
  units.each(shareOf(c).sumsDown, (i) =>
    units.each(size / shareOf(c).parts / c.matrixN, (n) => units.declare(`${name}${i}_${n}`)),
  );

/**
 * WGSL that takes sums through workgroup memory, a column of matrices of each subgroup at a time: `body` is written
 * with `at`, where the 16 neighbours of the invocation's row lie in 4 vectors, and with the column they begin at.
 * Workgroup memory from `resultsAt` on must be free, behind a barrier.
 */
export function throughMemory(
  c: MatrixConstants,
  units: MatrixUnits,
  sums: string,
  size: number,
  resultsAt: number,
  { body, reload = false }: { readonly body: (column: string) => string; readonly reload?: boolean },
): string {
  const { parts, sumsDown } = shareOf(c);
  const pitch = floatPitch(c.matrixN * parts);
  const offset = (i: number) =>
    `${resultsAt}u + (sum_row + ${i * c.matrixM}u) * ${pitch}u + part * ${c.matrixN / FLOATS}u`;
  return each(size / parts / c.matrixN, (n) => {
    return /* wgsl */ `
  {
    ${units.each(sumsDown, (i) => units.store(`${sums}${i}_${n}`, MEMORY, offset(i), `${pitch}u`))}
    ${BARRIER}
    let at = ${resultsAt}u + row * ${pitch}u + part * ${c.matrixN / FLOATS}u;
    ${body(`part * ${size / parts}u + ${n * c.matrixN}u`)}
    ${BARRIER}
    ${reload ? `${units.each(sumsDown, (i) => units.reload(`${sums}${i}_${n}`, 'Result', 'row_major', MEMORY, offset(i), `${pitch}u`))}\n    ${BARRIER}` : ''}
  }`;
  });
}

/** WGSL that writes the 16 neighbours at `at`, times a factor, as halves to `target` from vector `to` on. */
export const writeHalves = (target: string, to: string, factor: string): string =>
  each(
    2,
    (u) =>
      `${target}[${to} + ${u}u] = halves(bitcast<vec4<f32>>(memory[at + ${2 * u}u]) * ${factor}, bitcast<vec4<f32>>(memory[at + ${2 * u + 1}u]) * ${factor});`,
    '\n      ',
  );

/** WGSL functions that all these kernels share. */
export function commonFunctions(mask: MaskKind): string {
  return /* wgsl */ `
fn halves(a: vec4<f32>, b: vec4<f32>) -> vec4<u32> {
  return vec4<u32>(bitcast<vec2<u32>>(vec4<f16>(a)), bitcast<vec2<u32>>(vec4<f16>(b)));
}
fn four(first: u32) -> vec4<u32> { return vec4<u32>(first) + vec4<u32>(0u, 1u, 2u, 3u); }
/** Which of four pairs attend: see attends(). */
fn four_attend(own: vec4<u32>, keys: vec4<u32>, same: vec4<bool>) -> vec4<bool> {
  return ${mask === 'segments' ? '(keys == own) | ((keys < own) & same)' : 'keys <= own'};
}
`;
}
