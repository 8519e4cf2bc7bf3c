import type { MatrixArray, MatrixUnitSizes, MatrixUnits } from '@zebra/tensor';
import { CHUNK } from '../gates.wgsl.js';

/** Subgroups of a workgroup, and its invocations: subgroups of 32. */
export const SUBGROUPS = 8;
export const THREADS = 32 * SUBGROUPS;

/** Everything that is compiled into a variant of the scan for matrix units. */
export interface ScanConstants extends MatrixUnitSizes {
  /** P and N: 32, 64 or 128. */
  readonly headDim: number;
  readonly stateSize: number;
  /** Rows and columns of a head's state [P, N] that are in workgroup memory at once: 32 or 64 each. */
  readonly rows: number;
  readonly columns: number;
}

/** Parts that a head's rows are cut into, and blocks that its columns are. */
export function cutsOf({ headDim, stateSize, rows, columns }: ScanConstants) {
  return { parts: headDim / rows, blocks: stateSize / columns };
}

/** Halves and floats in a vector of 16 bytes, the unit of fetches and of workgroup memory. */
export const HALVES = 8;
const FLOATS = 4;
/** Side of a matrix. */
export const SIDE = 16;

export const range = (count: number) => Array.from({ length: count }, (_, k) => k);

/** Where matrices lie in workgroup memory. */
export const MEMORY: MatrixArray = { name: 'memory', type: 'vec4<u32>' };

/** A part of workgroup memory that holds a matrix row by row; all in vectors. One vector of padding a row spreads banks. */
export interface Region {
  readonly at: number;
  readonly pitch: number;
  readonly size: number;
}

/** Room for `rows` × `columns` halves. */
export function halves(at: number, rows: number, columns: number): Region {
  const pitch = columns / HALVES + 1;
  return { at, pitch, size: rows * pitch };
}

/** Room for `rows` × `columns` floats. */
export function floats(at: number, rows: number, columns: number): Region {
  const pitch = columns / FLOATS + 1;
  return { at, pitch, size: rows * pitch };
}

/** How the 16 × 16 tiles of a result are dealt to subgroups: each has `across` neighbours of one row of tiles. */
export function dealt(rows: number, columns: number) {
  const down = rows / SIDE;
  const tiles = down * (columns / SIDE);
  const across = Math.max(1, tiles / SUBGROUPS);
  return { down, across, active: tiles / across };
}

/** WGSL for the first row and column of the calling subgroup's share of a result. */
export function share(rows: number, columns: number) {
  const { down, across } = dealt(rows, columns);
  return { row: `(local.y % ${down}u) * ${SIDE}u`, column: `(local.y / ${down}u) * ${SIDE * across}u` };
}

/** Names of the subgroup's accumulators of a result. */
export const sumsOf = (name: string, rows: number, columns: number) =>
  range(dealt(rows, columns).across).map((c) => `${name}${c}`);

interface Operand {
  readonly region: Region;
  /** Neighbours in memory lie along the dimension that is summed over. */
  readonly alongK: boolean;
}

export interface ProductOptions {
  readonly rows: number;
  readonly columns: number;
  readonly depth: number;
  readonly left: Operand;
  readonly right: Operand;
  /** Results that the product is added to. */
  readonly into: readonly string[];
}

/** WGSL that adds left [rows, depth] · right [depth, columns] to results, all in workgroup memory. */
export function product(units: MatrixUnits, options: ProductOptions): string {
  const { rows, columns, depth, left, right, into } = options;
  const { across, active } = dealt(rows, columns);
  const at = share(rows, columns);
  const [l, r] = [left.region, right.region];
  const from = left.alongK
    ? `${l.at}u + ${at.row} * ${l.pitch}u + d * ${SIDE / HALVES}u`
    : `${l.at}u + d * ${SIDE * l.pitch}u + ${at.row} / ${HALVES}u`;
  const fromRight = (c: number) =>
    right.alongK
      ? `${r.at + SIDE * c * r.pitch}u + ${at.column} * ${r.pitch}u + d * ${SIDE / HALVES}u`
      : `${r.at + (SIDE / HALVES) * c}u + d * ${SIDE * r.pitch}u + ${at.column} / ${HALVES}u`;
  return only(
    active,
    /* wgsl */ `
    for (var d = 0u; d < ${depth / SIDE}u; d++) {
      ${units.load('left', 'Left', left.alongK ? 'row_major' : 'col_major', MEMORY, from, `${l.pitch}u`)}
${range(across)
  .map((c) => {
    const order = right.alongK ? 'col_major' : 'row_major';
    const load = units.load(`right${c}`, 'Right', order, MEMORY, fromRight(c), `${r.pitch}u`);
    return [load, ...into.map((name) => units.multiply(`${name}${c}`, 'left', `right${c}`))]
      .map((line) => `      ${line}`)
      .join('\n');
  })
  .join('\n')}
    }`,
  );
}

/** WGSL that lays a result down as floats. */
export function lay(units: MatrixUnits, name: string, rows: number, columns: number, to: Region): string {
  const { across, active } = dealt(rows, columns);
  const at = share(rows, columns);
  const lines = range(across).map((c) =>
    units.store(
      `${name}${c}`,
      MEMORY,
      `${to.at + (SIDE / FLOATS) * c}u + ${at.row} * ${to.pitch}u + ${at.column} / ${FLOATS}u`,
      `${to.pitch}u`,
    ),
  );
  return only(active, `    ${lines.join('\n    ')}`);
}

const only = (active: number, body: string) =>
  active === SUBGROUPS ? body : `    if (local.y < ${active}u) {${body}\n    }`;

/**
 * WGSL for what an invocation does with its vectors of 8 elements of a matrix of `columns`: `body` is given the index
 * of the round and sees `row` and `column` (in vectors).
 */
export function eachVector(rows: number, columns: number, body: (round: number) => string): string {
  const width = columns / HALVES;
  return range(rounds(rows, columns))
    .map((u) => {
      const lines = `let unit = lid + ${u * THREADS}u; let row = unit / ${width}u; let column = unit % ${width}u;\n      ${body(u)}`;
      return rows * width >= (u + 1) * THREADS
        ? `    { ${lines} }`
        : `    if (lid + ${u * THREADS}u < ${rows * width}u) { ${lines} }`;
    })
    .join('\n');
}

/** Vectors of 8 elements of a matrix that one invocation takes. */
export const rounds = (rows: number, columns: number) => Math.ceil((rows * columns) / HALVES / THREADS);

/** WGSL that declares a vector of 8 halves a round, `<name>0`, `<name>1`, … */
export const vectorsOf = (name: string, rows: number, columns: number) =>
  range(rounds(rows, columns))
    .map((u) => `  var ${name}${u} = vec4<u32>();`)
    .join('\n');

/** WGSL that fetches rows of a chunk, zero past its tokens: `binding[place + row · step + column]`. */
export const fetchRows = (name: string, columns: number, binding: string, place: string, step: string) =>
  eachVector(
    CHUNK,
    columns,
    (u) =>
      `${name}${u} = vec4<u32>(); if (row < tokens) { ${name}${u} = ${binding}[${place} + row * ${step} + column]; }`,
  );

/** WGSL of element vectors in a region: 8 halves, and the first and second four of 8 floats. */
export const halvesAt = (to: Region) => `memory[${to.at}u + row * ${to.pitch}u + column]`;
export const floatsAt = (to: Region, half: 0 | 1) =>
  `bitcast<vec4<f32>>(memory[${to.at + half}u + row * ${to.pitch}u + column * 2u])`;

/** WGSL functions on vectors of 8 halves, and decays between places of a chunk from what the gates hold. */
export const FUNCTIONS = /* wgsl */ `
fn packed(low: vec4<f32>, high: vec4<f32>) -> vec4<u32> {
  return vec4<u32>(pack2x16float(low.xy), pack2x16float(low.zw), pack2x16float(high.xy), pack2x16float(high.zw));
}
fn low_of(v: vec4<u32>) -> vec4<f32> { return vec4<f32>(unpack2x16float(v.x), unpack2x16float(v.y)); }
fn high_of(v: vec4<u32>) -> vec4<f32> { return vec4<f32>(unpack2x16float(v.z), unpack2x16float(v.w)); }
fn scaled(v: vec4<u32>, factor: f32) -> vec4<u32> { return packed(low_of(v) * factor, high_of(v) * factor); }
// Gates lie so that those of eight tokens at distance 8 are on different banks.
fn place_of(token: u32) -> u32 { return (token & ~7u) | ((token ^ (token >> 3u)) & 7u); }
fn from_start(gate: vec4<f32>) -> f32 { return select(0.0, exp(min(gate.z + gate.y, 0.0)), gate.w < 0.0); }
fn between(early: vec4<f32>, late: vec4<f32>, at: u32) -> f32 {
  return select(0.0, exp(min((late.z - early.z) + (late.y - early.y), 0.0)), late.w <= f32(at));
}`;

/** WGSL for an entry point of 32 × {@link SUBGROUPS} invocations: `item` is the workgroup's index, below `count`. */
export function subgroupsMain(units: MatrixUnits, body: string): string {
  return /* wgsl */ `
@compute @workgroup_size(32, ${SUBGROUPS})
fn main(@builtin(workgroup_id) wid: vec3<u32>, @builtin(num_workgroups) nwg: vec3<u32>, @builtin(local_invocation_id) local: vec3<u32>) {
  let item = wid.x + wid.y * nwg.x;
  if (item >= p.count) { return; }
  ${units.begin('local.x', 'nwg.x')}
  let lid = local.y * 32u + local.x;
${body}
}`;
}
