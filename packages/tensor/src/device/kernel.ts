import type { DType } from '../core/dtype.js';
import { WGSL_TYPE, wgslBytes } from '../core/dtype.js';
import type { Device } from './device.js';
import { type Cuts, pieceFunctions, pieceName, throughPieces, UNCUT } from './pieces.wgsl.js';

/** Scalar parameter types of a kernel. */
type ParamType = 'u32' | 'i32' | 'f32';

/** What a kernel's template function may look at when it writes WGSL. */
export interface KernelVariant {
  /** dtype of a bound tensor. */
  dtype(binding: string): DType;
  /** Whether an optional binding is there. */
  has(binding: string): boolean;
  /** Compile-time constants of this variant. */
  readonly constants: Readonly<Record<string, number | boolean | string>>;
  /** The adapter is a CPU: write barrier-free loops. */
  readonly software: boolean;
  /** The `subgroups` feature is there. */
  readonly subgroups: boolean;
  /** The matrix units that the device speaks of are emulated: see `MatrixUnits`. */
  readonly matrixEmulated: boolean;
  /** Invocations in a workgroup, also `WORKGROUP` in WGSL. */
  readonly workgroup: number;
}

/**
 * A compute kernel: a template function that returns WGSL for each variant (dtypes, constants, adapter), and the
 * names of what it binds. The header (enables, type aliases `<binding>_t`, bindings, `Params`, `WORKGROUP`) is
 * generated, so that the template holds the maths alone.
 */
export interface Kernel {
  readonly name: string;
  /** `read`: not changed; `write`: read and written. In binding order. */
  readonly bindings: Readonly<Record<string, 'read' | 'write'>>;
  /** Scalars passed as data, read in WGSL as `p.<name>`. At most 60. */
  readonly params?: Readonly<Record<string, ParamType>>;
  /** WGSL directives (`enable …;`) that the generated header does not write of its own accord. */
  readonly directives?: readonly string[] | ((variant: KernelVariant) => readonly string[]);
  /** Bindings declared as arrays of 2- or 4-vectors. */
  readonly vectors?: (variant: KernelVariant) => Readonly<Record<string, 2 | 4>>;
  /** Invocations a workgroup; the device's default (one row of lanes) otherwise. */
  readonly workgroup?: number | ((variant: Omit<KernelVariant, 'workgroup'>) => number);
  /**
   * Bindings of which invocation i of `p.count` touches element i and no other, by a variant's constants. A dispatch
   * over tensors that are larger than one binding is then cut into several; those of other kernels, and other bindings,
   * are bound in pieces. Default: none.
   */
  readonly itemwise?: (constants: KernelVariant['constants']) => readonly string[];
  /** WGSL with an entry point `main` (see {@link linearMain}). */
  readonly source: (variant: KernelVariant) => string;
}

/** Declares a kernel; the identity function, for its types. */
export function defineKernel<const K extends Kernel>(kernel: K): K {
  return kernel;
}

/** Workgroups for kernels that move much and compute little: large ones on a GPU, which starts only so many at a time. */
export const wideWorkgroup: Kernel['workgroup'] = ({ software }) => (software ? 64 : 256);

/**
 * An entry point with one invocation an item: `i` is the item's index, and invocations at or past `count` (a WGSL
 * expression) return at once. Works past 65,535 workgroups.
 */
export function linearMain(count: string, body: string): string {
  return /* wgsl */ `
@compute @workgroup_size(WORKGROUP)
fn main(@builtin(workgroup_id) wid: vec3<u32>, @builtin(num_workgroups) nwg: vec3<u32>, @builtin(local_invocation_index) lid: u32) {
  let i = (wid.x + wid.y * nwg.x) * WORKGROUP + lid;
  if (i >= ${count}) { return; }
${body}
}`;
}

/** Items that an invocation of a GPU handles in {@link blockMain}. */
const BLOCK_ITEMS = 2;

/**
 * {@link linearMain} for kernels that move much and compute little. On a GPU an invocation handles two items, a
 * workgroup apart, so that neighbours touch neighbours and more bytes are under way. The body is written for a list of
 * indices, and should load all of them before it stores any: a compiler may not know that the two do not touch.
 *
 * Dispatch {@link blockGroups} workgroups.
 */
export function blockMain(
  { software }: Pick<KernelVariant, 'software'>,
  count: string,
  body: (at: readonly string[]) => string,
): string {
  if (software) return linearMain(count, body(['i']));
  return /* wgsl */ `
@compute @workgroup_size(WORKGROUP)
fn main(@builtin(workgroup_id) wid: vec3<u32>, @builtin(num_workgroups) nwg: vec3<u32>, @builtin(local_invocation_index) lid: u32) {
  let i = (wid.x + wid.y * nwg.x) * (${BLOCK_ITEMS}u * WORKGROUP) + lid;
  let next = i + WORKGROUP;
  if (next < ${count}) {
${body(['i', 'next'])}
  } else if (i < ${count}) {
${body(['i'])}
  }
}`;
}

/** Workgroups for `count` items of a kernel whose entry point is {@link blockMain}. */
export function blockGroups(device: Device, kernel: Kernel, count: number): number {
  return Math.ceil(count / (device.workgroupOf(kernel) * (device.info.software ? 1 : BLOCK_ITEMS)));
}

/**
 * An entry point with one workgroup a row: `row` is the workgroup's index and `lid` the lane; workgroups at or past
 * `count` return at once (uniformly, so barriers are allowed after it).
 */
export function rowMain(count: string, body: string): string {
  return /* wgsl */ `
@compute @workgroup_size(WORKGROUP)
fn main(@builtin(workgroup_id) wid: vec3<u32>, @builtin(num_workgroups) nwg: vec3<u32>, @builtin(local_invocation_index) lid: u32) {
  let row = wid.x + wid.y * nwg.x;
  if (row >= ${count}) { return; }
${body}
}`;
}

/**
 * Writes the generated header in front of a kernel's own source. Bindings that are cut are declared piece by piece, and
 * read and written through functions.
 */
export function assembleSource(
  kernel: Kernel,
  variant: KernelVariant,
  present: readonly string[],
  cuts: Cuts = UNCUT,
): string {
  const lines: string[] = [];
  if (present.some((name) => variant.dtype(name) === 'float16')) lines.push('enable f16;');
  lines.push(...(typeof kernel.directives === 'function' ? kernel.directives(variant) : (kernel.directives ?? [])));
  let body = kernel.source(variant);
  if (variant.subgroups && /\bsubgroup[A-Z]/.test(body)) lines.push('enable subgroups;');
  lines.push(`const WORKGROUP: u32 = ${variant.workgroup}u;`);
  const vectors = kernel.vectors?.(variant) ?? {};
  let slot = 0;
  const declare = (name: string, access: string, element: string) =>
    lines.push(`@group(0) @binding(${slot++}) var<storage, ${access}> ${name}: array<${element}>;`);
  for (const name of present) {
    const dtype = variant.dtype(name);
    const width = vectors[name];
    const access = kernel.bindings[name] === 'write' ? 'read_write' : 'read';
    const element = `${name}_t`;
    lines.push(`alias ${element} = ${width ? `vec${width}<${WGSL_TYPE[dtype]}>` : WGSL_TYPE[dtype]};`);
    const pieces = cuts.counts.get(name) ?? 1;
    if (pieces === 1) {
      declare(name, access, element);
      continue;
    }
    for (let k = 0; k < pieces; k++) declare(pieceName(name, k), access, element);
    const length = cuts.bytes / (wgslBytes(dtype) * (width ?? 1));
    lines.push(pieceFunctions({ name, access: kernel.bindings[name]!, element, pieces, length }));
    body = throughPieces(body, name);
  }
  const params = Object.entries(kernel.params ?? {});
  if (params.length > 0) {
    lines.push(`struct Params { ${params.map(([name, type]) => `${name}: ${type}`).join(', ')} }`);
    lines.push(`@group(0) @binding(${slot}) var<uniform> p: Params;`);
  }
  lines.push(body);
  return lines.join('\n');
}

/** Packs parameter values as the generated `Params` struct lays them out (4 bytes each, in order). */
export function packParams(kernel: Kernel, values: Readonly<Record<string, number>>): ArrayBuffer {
  const entries = Object.entries(kernel.params ?? {});
  const buffer = new ArrayBuffer(Math.max(16, Math.ceil(entries.length / 4) * 16));
  const view = new DataView(buffer);
  entries.forEach(([name, type], index) => {
    const value = values[name];
    if (value === undefined || Number.isNaN(value)) {
      throw new TypeError(`kernel ${kernel.name}: parameter ${name} is ${String(value)}`);
    }
    if (type === 'f32') view.setFloat32(index * 4, value, true);
    else if (type === 'i32') view.setInt32(index * 4, value, true);
    else view.setUint32(index * 4, value, true);
  });
  return buffer;
}
