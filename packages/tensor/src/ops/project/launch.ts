import type { Tensor } from '../../core/tensor.js';
import type { BoundRange, DeviceInfo } from '../../device/device.js';
import { isHeavy } from '../matmul/choose.js';
import { type ProjectConstants, projectGroups, projectKernel, UNIT } from './project.wgsl.js';

/** One call as the kernel sees it. */
export interface ProjectCall {
  readonly x: Tensor;
  /** One to three, of `size` columns each. */
  readonly weights: readonly Tensor[];
  /** Rows of each weight. */
  readonly counts: readonly number[];
  readonly norm?: Tensor | undefined;
  readonly residual?: Tensor | undefined;
  readonly y: Tensor;
  /** Rows of x, elements of one, and the first of those that are used. */
  readonly rows: number;
  readonly width: number;
  readonly start: number;
  /** Columns of the weights. */
  readonly size: number;
  readonly eps: number;
  readonly gated: boolean;
}

/** Most rows of x that the kernel takes: each costs registers and a read of x for every few columns. */
const MOST_ROWS = 8;

/** Subgroups of these sizes share a column. */
const SUBGROUPS = [4, 8, 16, 32, 64];

/** Groups of lanes from which on every multiprocessor of a large GPU has several to switch between. */
const ENOUGH_GROUPS = 1024;

/** Offsets of bindings are multiples of this in WebGPU. */
const ALIGNMENT = 256;

/** Whether the kernel serves a call. Heavy products of several rows are left to the matrix units, where there are any. */
export function projects({ x, weights, norm, residual, y, rows, width, start, size }: ProjectCall): boolean {
  // A norm gives what the weights are.
  const halves = (norm !== undefined || x.dtype === 'float16') && weights.every(({ dtype }) => dtype === 'float16');
  return (
    !y.device.info.software &&
    rows <= MOST_ROWS &&
    !(halves && weights.every(({ shape }) => isHeavy(y.device.info, rows, shape[0]!, size))) &&
    [width, start, size].every((length) => length % UNIT === 0) &&
    [x, ...weights, norm, residual, y].every((tensor) => !tensor || tensor.offset % ALIGNMENT === 0)
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
export function launchProject(call: ProjectCall): void {
  const { x, weights, counts, norm, residual, y, rows, width, start, size, eps, gated } = call;
  const { device } = y;
  const n = gated ? counts[0]! : counts.reduce((sum, count) => sum + count, 0);
  const constants: ProjectConstants = {
    ...lanesOf(device.info),
    rows: [1, 2, 4].find((count) => rows <= count) ?? MOST_ROWS,
    columns: columnsOf(counts, n, gated),
    gated,
  };
  const [w0, w1, w2] = weights;
  device.dispatch(projectKernel, {
    bindings: {
      x: packed(x),
      w0: packed(w0!),
      w1: w1 && packed(w1),
      w2: w2 && packed(w2),
      norm: norm && packed(norm),
      residual: residual?.range(),
      y: y.range(),
    },
    params: {
      m: rows,
      n0: counts[0]!,
      n1: counts[1] ?? 0,
      n,
      units: size / UNIT,
      x_stride: width / UNIT,
      x_start: start / UNIT,
      eps,
    },
    constants: { ...constants },
    groups: Math.ceil(n / constants.columns / projectGroups(constants)),
  });
}

/** Columns of a group of lanes: several share what is read of x, if enough groups remain. */
function columnsOf(counts: readonly number[], n: number, gated: boolean): number {
  const most = gated ? 2 : 4;
  const fits = [4, 2].filter((count) => count <= most && counts.every((rows) => rows % count === 0));
  return fits.find((count) => n / count >= ENOUGH_GROUPS) ?? 1;
}

/** float16 as the vectors of words that the kernel unpacks. */
function packed(tensor: Tensor): BoundRange {
  const range = tensor.range();
  return tensor.dtype === 'float16' ? { ...range, dtype: 'uint32' } : range;
}
