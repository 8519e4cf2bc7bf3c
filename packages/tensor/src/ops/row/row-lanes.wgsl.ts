import type { Device } from '../../device/device.js';
import type { Kernel, KernelVariant } from '../../device/kernel.js';

/**
 * How a kernel that works row by row spreads a row over invocations, and whether it moves 4 columns at a time. Both
 * are compile-time constants of a variant; the number of rows and columns is data.
 */
export interface RowPlan {
  /** Columns divided by the vector width: what kernels count in. */
  readonly units: number;
  readonly constants: { readonly lanes: number; readonly width: 1 | 4 };
}

/** Lanes of a row that are first combined one by one on a hardware GPU, before the last step over as many sums. */
const STRIPE = 16;

/** Rows from which on a CPU is busy with one invocation a row, which is what it does fastest. */
const MANY_ROWS = 64;

/** Options of {@link planRows}. */
export interface RowOptions {
  /** How many rows there will be: many of them are worked on one by one on a CPU. Default 1. */
  readonly rows?: number;
  /** Move 4 columns at a time where their number allows. Default true. */
  readonly vector?: boolean;
}

/** Plans rows of `columns` values. */
export function planRows(device: Device, columns: number, options: RowOptions = {}): RowPlan {
  const { rows = 1, vector = true } = options;
  const width = vector && columns % 4 === 0 ? 4 : 1;
  const units = columns / width;
  return { units, constants: { lanes: lanesFor(device, rows, units), width } };
}

function lanesFor({ info }: Device, rows: number, units: number): number {
  // Four neighbouring lanes share a subgroup on every adapter (4 is WebGPU's smallest): no barrier is needed.
  if (info.software) return info.subgroups && rows < MANY_ROWS ? 4 : 1;
  if (units >= 256) return 256;
  return units > STRIPE ? 32 : STRIPE;
}

/** Invocations of a workgroup that works row by row: small ones on a CPU, so that the rows reach every core. */
export const rowWorkgroup: Kernel['workgroup'] = ({ software, constants }) => {
  if (!software) return 256;
  return constants['lanes'] === 1 ? 8 : 32;
};

/** Workgroups for `rows` rows. */
export function rowGroups(device: Device, kernel: Kernel, rows: number, { constants }: RowPlan): number {
  return Math.ceil(rows / (device.workgroupOf(kernel, { constants }) / constants.lanes));
}

/** The vector type `F` of `width` columns, with its sum and its maximum. */
export function vectorHelpers(width: KernelVariant['constants'][string] | undefined): string {
  return width === 4
    ? /* wgsl */ `
alias F = vec4<f32>;
fn total(v: F) -> f32 { return (v.x + v.y) + (v.z + v.w); }
fn highest(v: F) -> f32 { return max(max(v.x, v.y), max(v.z, v.w)); }`
    : /* wgsl */ `
alias F = f32;
fn total(v: F) -> f32 { return v; }
fn highest(v: F) -> f32 { return v; }`;
}

/** Bindings as 4-vectors where the plan says so. */
export function rowVectors(...names: string[]): Kernel['vectors'] {
  return ({ constants }) =>
    constants['width'] === 4 ? Object.fromEntries(names.map((name) => [name, 4 as const])) : {};
}

/**
 * A function `name(v, lid)` that combines one value of each lane of a row, in a fixed order, and gives every lane the
 * result. To be called where all lanes come by.
 *
 * @param combine WGSL that combines `a` and `b`, associative and commutative but for rounding
 */
export function rowReduction(variant: KernelVariant, name: string, type: string, combine: string): string {
  const lanes = Number(variant.constants['lanes']);
  const merge = `fn ${name}_merge(a: ${type}, b: ${type}) -> ${type} { return ${combine}; }`;
  if (lanes === 1) return `fn ${name}(v: ${type}, lid: u32) -> ${type} { return v; }`;
  if (variant.software) {
    return /* wgsl */ `
${merge}
fn ${name}(v: ${type}, lid: u32) -> ${type} {
  let pair = ${name}_merge(v, subgroupShuffleXor(v, 1u));
  return ${name}_merge(pair, subgroupShuffleXor(pair, 2u));
}`;
  }
  const second =
    lanes === STRIPE
      ? ''
      : /* wgsl */ `
  if (lid % LANES < ${STRIPE}u) {
    var sum = ${name}_lanes[lid];
    for (var k = 1u; k < LANES / ${STRIPE}u; k++) { sum = ${name}_merge(sum, ${name}_lanes[lid + k * ${STRIPE}u]); }
    ${name}_lanes[lid] = sum;
  }
  workgroupBarrier();`;
  return /* wgsl */ `
${merge}
var<workgroup> ${name}_lanes: array<${type}, WORKGROUP>;
fn ${name}(v: ${type}, lid: u32) -> ${type} {
  ${name}_lanes[lid] = v;
  workgroupBarrier();${second}
  let first = lid / LANES * LANES;
  var result = ${name}_lanes[first];
  for (var k = 1u; k < ${STRIPE}u; k++) { result = ${name}_merge(result, ${name}_lanes[first + k]); }
  workgroupBarrier();
  return result;
}`;
}

/** {@link rowReduction} as a sum, `row_sum`. */
export const rowSum = (variant: KernelVariant): string => rowReduction(variant, 'row_sum', 'f32', 'a + b');
/** {@link rowReduction} as a maximum, `row_max`. */
export const rowMax = (variant: KernelVariant): string => rowReduction(variant, 'row_max', 'f32', 'max(a, b)');

/** Units of a row that a lane of a GPU loads before it works on them, so that enough bytes are under way. */
const UNROLL = 4;

/**
 * A loop of a lane over its units of a row, several at a time on a GPU: the body is written for the numbers `k` of
 * those, and reads unit `c<k>`. Loads of a body should all stand before its stores: the compiler may not know that
 * they do not touch.
 *
 * @param end where the row ends, in units
 */
export function rowLoop(variant: KernelVariant, end: string, body: (ks: readonly number[]) => string): string {
  const loop = (count: number): string => {
    const ks = Array.from({ length: count }, (_, k) => k);
    const ahead = count > 1 ? ` + ${count - 1}u * LANES` : '';
    return /* wgsl */ `
    for (; unit${ahead} < ${end}; unit += ${count}u * LANES) {
      ${ks.map((k) => `let c${k} = unit + ${k}u * LANES;`).join(' ')}
      ${body(ks)}
    }`;
  };
  return `  {
    var unit = lane;${variant.software ? '' : loop(UNROLL)}${loop(1)}
  }`;
}

/** Most units of a row that a lane keeps in registers. */
const MOST_HELD = 8;

/**
 * Units of a row that each lane holds in registers between two looks at it, so that a GPU reads the row once; 0 where a
 * row is too long for that, and on a CPU.
 */
export function heldUnits(device: Device, { units, constants }: RowPlan): number {
  const held = Math.ceil(units / constants.lanes);
  return device.info.software || held > MOST_HELD ? 0 : held;
}

/** The numbers of the held units, for {@link heldLoads} and what is done with them. */
export const heldNumbers = (held: number): number[] => Array.from({ length: held }, (_, k) => k);

/** WGSL that loads `<name><k>`, the lane's unit number k, or 0 past `end`, from the expressions of unit `c<k>`. */
export function heldLoads(held: number, end: string, values: Readonly<Record<string, (c: string) => string>>): string {
  const names = Object.keys(values);
  return heldNumbers(held)
    .map(
      (k) => `
  let c${k} = lane + ${k}u * LANES;
${names.map((name) => `  var ${name}${k} = F(0);`).join('\n')}
  if (c${k} < ${end}) {
${names.map((name) => `    ${name}${k} = ${values[name]!(`c${k}`)};`).join('\n')}
  }`,
    )
    .join('');
}

/**
 * An entry point with `LANES` invocations a row. The body sees `row`, `lane`, `inside` (whether the row exists), and
 * `end`: the row's length in units (`p.units`), 0 where there is no row, so that its loops
 * `for (var c = lane; c < end; c += LANES)` need no other guard; `base` is the row's first unit.
 */
export function rowLanesMain(variant: KernelVariant, body: string): string {
  return /* wgsl */ `
const LANES: u32 = ${Number(variant.constants['lanes'])}u;
@compute @workgroup_size(WORKGROUP)
fn main(@builtin(workgroup_id) wid: vec3<u32>, @builtin(num_workgroups) nwg: vec3<u32>, @builtin(local_invocation_index) lid: u32) {
  let row = (wid.x + wid.y * nwg.x) * (WORKGROUP / LANES) + lid / LANES;
  let lane = lid % LANES;
  let inside = row < p.rows;
  let end = select(0u, p.units, inside);
  let base = row * p.units;
${body}
}`;
}
