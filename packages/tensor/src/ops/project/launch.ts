import type { OpInputs } from '../../core/define-op.js';
import { elementCount } from '../../core/shape.js';
import type { Tensor } from '../../core/tensor.js';
import type { BoundRange, DeviceInfo } from '../../device/device.js';
import type { ProjectAttributes } from './index.js';
import { type ProjectConstants, projectGroups, projectKernel, UNIT } from './project.wgsl.js';

/** One call as the kernel sees it. */
export interface ProjectCall {
  /** x, w0, w1, w2, norm, residual */
  readonly inputs: OpInputs;
  readonly y: Tensor;
  readonly attributes: ProjectAttributes;
}

/** Most rows of x that the kernel takes: each costs registers and a read of x for every few columns. */
const MOST_ROWS = 8;

/** Subgroups of these sizes share a column. */
const SUBGROUPS = [4, 8, 16, 32, 64];

/** Groups of lanes from which on every multiprocessor of a large GPU has several to switch between. */
const ENOUGH_GROUPS = 1024;

/** Offsets of bindings are multiples of this in WebGPU. */
const ALIGNMENT = 256;

/** Whether the kernel serves a call. */
export function projects({ inputs, y, attributes: { start } }: ProjectCall): boolean {
  const [x, w0] = inputs as [Tensor, Tensor];
  const rows = elementCount(x.shape.slice(0, -1));
  const lengths = [x.shape.at(-1)!, w0.shape[1]!, start];
  return (
    !y.device.info.software &&
    rows <= MOST_ROWS &&
    lengths.every((length) => length % UNIT === 0) &&
    [...inputs, y].every((tensor) => !tensor || tensor.offset % ALIGNMENT === 0)
  );
}

/** Lanes that share a column: a subgroup, or without subgroups of a known size as many as meet in workgroup memory. */
function lanesOf(info: DeviceInfo): Pick<ProjectConstants, 'lanes' | 'subgroups' | 'inFlight'> {
  const subgroups = info.subgroups && SUBGROUPS.includes(info.subgroupSize);
  const lanes = subgroups ? info.subgroupSize : 32;
  // Small subgroups are those of software adapters, which take half a minute to compile eight loads written out.
  return { lanes, subgroups, inFlight: subgroups && lanes >= 32 ? 8 : 2 };
}

/** Fills y. */
export function launchProject({ inputs, y, attributes: { start, eps, gated } }: ProjectCall): void {
  const [x, w0, w1, w2, norm, residual] = inputs as [Tensor, Tensor, ...OpInputs];
  const { device } = y;
  const rows = elementCount(x.shape.slice(0, -1));
  const n = y.shape.at(-1)!;
  const sizes = [w0, w1, w2].flatMap((weight) => (weight ? [weight.shape[0]!] : []));
  const constants: ProjectConstants = {
    ...lanesOf(device.info),
    rows: [1, 2, 4].find((count) => rows <= count) ?? MOST_ROWS,
    columns: columnsOf(sizes, n, gated),
    gated,
  };
  const groups = Math.ceil(n / constants.columns);
  device.dispatch(projectKernel, {
    bindings: {
      x: packed(x),
      w0: packed(w0),
      w1: w1 && packed(w1),
      w2: w2 && packed(w2),
      norm: norm && packed(norm),
      residual: residual?.range(),
      y: y.range(),
    },
    params: {
      m: rows,
      n0: sizes[0]!,
      n1: sizes[1] ?? 0,
      n,
      units: w0.shape[1]! / UNIT,
      x_stride: x.shape.at(-1)! / UNIT,
      x_start: start / UNIT,
      eps,
    },
    constants: { ...constants },
    groups: Math.ceil(groups / projectGroups(constants)),
  });
}

/** Columns of a group of lanes: several share what is read of x, if enough groups remain. */
function columnsOf(sizes: readonly number[], n: number, gated: boolean): number {
  const most = gated ? 2 : 4;
  const fits = [4, 2].filter((count) => count <= most && sizes.every((size) => size % count === 0));
  return fits.find((count) => n / count >= ENOUGH_GROUPS) ?? 1;
}

/** float16 as the vectors of words that the kernel unpacks. */
function packed(tensor: Tensor): BoundRange {
  const range = tensor.range();
  return tensor.dtype === 'float16' ? { ...range, dtype: 'uint32' } : range;
}
