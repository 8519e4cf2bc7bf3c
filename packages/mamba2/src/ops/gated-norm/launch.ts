import { allocateTensor, cast, type Device, sum, type Tensor } from '@zebra/tensor';
import type { Columns } from '../../rows.js';
import {
  gatedNormGradientKernel,
  gatedNormKernel,
  gatedNormWeightKernel,
  groupsPerWorkgroup,
  ROW_BLOCK,
} from './gated-norm.wgsl.js';

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

/** Writes the normed, gated y. */
export function launchGatedNorm(device: Device, o: GatedNormOperands, out: Tensor): void {
  const count = o.y.size / o.groupSize;
  device.dispatch(gatedNormKernel, {
    bindings: { y: o.y.range(), z: o.z.tensor.range(), weight: o.weight.range(), out: out.range() },
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
  const tokens = o.y.size / width;
  const count = o.y.size / o.groupSize;
  const scales = allocateTensor(device, { shape: [count], dtype: 'float32' });
  device.dispatch(gatedNormGradientKernel, {
    bindings: {
      y: o.y.range(),
      z: o.z.tensor.range(),
      weight: o.weight.range(),
      g: g.range(),
      dy: dy.range(),
      dz: dz.tensor.range(),
      scales: scales.range(),
    },
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
  const total = sum(shares, { axes: [0] });
  return o.weight.dtype === 'float32' ? total : cast(total, o.weight.dtype);
}
