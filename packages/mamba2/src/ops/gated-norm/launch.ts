import { allocateTensor, cast, type Device, sum, type Tensor } from '@zebra/tensor';
import type { Columns } from '../../rows.js';
import {
  gatedNormGradientKernel,
  gatedNormKernel,
  gatedNormWeightKernel,
  groupsPerWorkgroup,
  ROW_BLOCK,
} from './gated-norm.wgsl.js';
import {
  gatedNormLanesGradientKernel,
  gatedNormLanesKernel,
  type LanesConstants,
  THREADS,
  TOKENS,
  TOKENS_OF_GRADIENT,
} from './lanes.wgsl.js';

const VECTOR = 4;
const MOST_LANES = 32;

/** What the norm works on: y [B, T, d_inner] contiguous, z wherever its columns lie. */
export interface GatedNormOperands {
  readonly y: Tensor;
  readonly z: Columns;
  readonly weight: Tensor;
  /** Channels that are normalised together. */
  readonly groupSize: number;
  readonly epsilon: number;
}

function paramsOf(o: GatedNormOperands, dz = o.z) {
  const groups = o.weight.size / o.groupSize;
  return {
    size: o.groupSize,
    groups,
    z_offset: o.z.offset,
    z_stride: o.z.stride,
    dz_offset: dz.offset,
    dz_stride: dz.stride,
    epsilon: o.epsilon,
  };
}

/**
 * Constants of the kernels that keep one vector of a group in each lane, where the adapter is a GPU, groups are of at
 * most 128 channels, and all columns can be read as vectors; otherwise undefined.
 */
function lanesOf(device: Device, o: GatedNormOperands, dz = o.z): LanesConstants | undefined {
  if (device.info.software || o.groupSize > VECTOR * MOST_LANES) return undefined;
  const aligned = [o.groupSize, o.z.offset, o.z.stride, dz.offset, dz.stride].every((value) => value % VECTOR === 0);
  if (!aligned) return undefined;
  const lanes = 2 ** Math.ceil(Math.log2(o.groupSize / VECTOR));
  const { subgroups, subgroupSize } = device.info;
  return { lanes, shuffle: subgroups && subgroupSize >= lanes };
}

/** Params of those kernels, offsets and strides in vectors, for blocks of so many tokens; and their workgroups. */
function lanesParams(o: GatedNormOperands, { lanes }: LanesConstants, block: number, dz = o.z) {
  const params = paramsOf(o, dz);
  const tokens = o.y.size / o.weight.size;
  const columnBlocks = Math.ceil(params.groups / (THREADS / lanes));
  const blocks = Math.ceil(tokens / block);
  return {
    ...params,
    z_offset: params.z_offset / VECTOR,
    z_stride: params.z_stride / VECTOR,
    dz_offset: params.dz_offset / VECTOR,
    dz_stride: params.dz_stride / VECTOR,
    tokens,
    column_blocks: columnBlocks,
    count: columnBlocks * blocks,
  };
}

/** Writes the normed, gated y. */
export function launchGatedNorm(device: Device, o: GatedNormOperands, out: Tensor): void {
  const bindings = { y: o.y.range(), z: o.z.tensor.range(), weight: o.weight.range(), out: out.range() };
  const lanes = lanesOf(device, o);
  if (lanes) {
    const params = lanesParams(o, lanes, TOKENS);
    device.dispatch(gatedNormLanesKernel, { bindings, params, constants: { ...lanes }, groups: params.count });
    return;
  }
  const count = o.y.size / o.groupSize;
  device.dispatch(gatedNormKernel, {
    bindings,
    params: { ...paramsOf(o), count },
    groups: Math.ceil(count / groupsPerWorkgroup(device.info.software)),
  });
}

/** Gradients of y and z into `dy` and its columns; of the weight as a new tensor. */
export function launchGatedNormGradient(
  device: Device,
  o: GatedNormOperands,
  g: Tensor,
  dy: Tensor,
  dz: Columns,
): Tensor {
  const width = o.weight.size;
  const ofWeight = (shares: Tensor): Tensor => {
    const total = sum(shares, { axes: [0] });
    return o.weight.dtype === 'float32' ? total : cast(total, o.weight.dtype);
  };
  const bindings = {
    y: o.y.range(),
    z: o.z.tensor.range(),
    weight: o.weight.range(),
    g: g.range(),
    dy: dy.range(),
    dz: dz.tensor.range(),
  };
  const lanes = lanesOf(device, o, dz);
  if (lanes) {
    const params = lanesParams(o, lanes, TOKENS_OF_GRADIENT, dz);
    const shares = allocateTensor(device, { shape: [params.count / params.column_blocks, width], dtype: 'float32' });
    device.dispatch(gatedNormLanesGradientKernel, {
      bindings: { ...bindings, shares: shares.range() },
      params,
      constants: { ...lanes },
      groups: params.count,
    });
    return ofWeight(shares);
  }
  const tokens = o.y.size / width;
  const count = o.y.size / o.groupSize;
  const scales = allocateTensor(device, { shape: [count], dtype: 'float32' });
  device.dispatch(gatedNormGradientKernel, {
    bindings: { ...bindings, scales: scales.range() },
    params: { ...paramsOf(o, dz), count },
    groups: Math.ceil(count / groupsPerWorkgroup(device.info.software)),
  });
  const blocks = Math.ceil(tokens / ROW_BLOCK);
  const shares = allocateTensor(device, { shape: [blocks, width], dtype: 'float32' });
  device.dispatch(gatedNormWeightKernel, {
    bindings: { y: o.y.range(), z: o.z.tensor.range(), g: g.range(), scales: scales.range(), shares: shares.range() },
    params: { ...paramsOf(o), count: shares.size, tokens },
    groups: Math.ceil(shares.size / device.workgroupOf(gatedNormWeightKernel)),
  });
  return ofWeight(shares);
}
