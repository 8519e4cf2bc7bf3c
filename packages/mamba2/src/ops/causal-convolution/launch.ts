import { allocateTensor, type Device, sum, type Tensor } from '@zebra/tensor';
import type { Columns } from '../../rows.js';
import {
  blockOf,
  convolutionGradientKernel,
  convolutionKernel,
  convolutionSharesKernel,
  convolutionStateKernel,
  foldChannelsKernel,
} from './causal-convolution.wgsl.js';

/** Heads that are repeated on the way into the convolution. */
interface RepeatedHeads {
  readonly headDim: number;
  /** Channels that read one column. */
  readonly group: number;
  /** Columns of x, and of B, in the row. */
  readonly keyValueSize: number;
  /** Channels of x, of B and of C. */
  readonly innerSize: number;
}

/** What the convolution works on, wherever its columns lie. */
export interface ConvolutionOperands {
  readonly batch: number;
  readonly length: number;
  readonly channels: number;
  readonly x: Columns;
  readonly weight: Tensor;
  readonly bias: Tensor;
  readonly repeat?: RepeatedHeads | undefined;
  readonly segments?: Tensor | undefined;
}

const NO_REPEAT: RepeatedHeads = { headDim: 1, group: 1, keyValueSize: 0, innerSize: 0 };

function paramsOf(o: ConvolutionOperands, y: { offset: number; stride: number }, block: number, width = 1) {
  const repeat = o.repeat ?? NO_REPEAT;
  return {
    length: o.length,
    channels: o.channels,
    blocks: Math.ceil(o.length / block),
    x_offset: o.x.offset / width,
    x_stride: o.x.stride / width,
    y_offset: y.offset / width,
    y_stride: y.stride / width,
    repeat: o.repeat ? 1 : 0,
    head_dim: repeat.headDim,
    group: repeat.group,
    key_value: repeat.keyValueSize,
    inner: repeat.innerSize,
  };
}

/** Channels of an invocation: on a GPU four as a vector, where all places can be read as vectors. */
function widthOf(device: Device, o: ConvolutionOperands, y: { offset: number; stride: number }): 1 | 4 {
  const places = [o.channels, o.x.offset, o.x.stride, y.offset, y.stride, o.repeat?.headDim ?? 0];
  return !device.info.software && places.every((value) => value % 4 === 0) ? 4 : 1;
}

const inputs = (o: ConvolutionOperands) => ({
  x: o.x.tensor.range(),
  weight: o.weight.range(),
  bias: o.bias.range(),
  segments: o.segments?.range(),
});

/** SiLU of the convolution into y [B, T, C]; the state is read only. */
export function launchConvolution(device: Device, o: ConvolutionOperands, y: Tensor, state?: Tensor): void {
  const place = { offset: 0, stride: o.channels };
  const width = widthOf(device, o, place);
  const params = paramsOf(o, place, blockOf(device.info.software), width);
  const count = (o.batch * params.blocks * o.channels) / width;
  device.dispatch(convolutionKernel, {
    bindings: { ...inputs(o), state: state?.range(), y: y.range() },
    params: { ...params, count },
    constants: { vector: width === 4 },
    groups: Math.ceil(count / device.workgroupOf(convolutionKernel)),
  });
}

/** Gradient of the columns into `dx`, and of weight and bias as new tensors. */
export function launchConvolutionGradient(
  device: Device,
  o: ConvolutionOperands,
  g: Tensor,
  dx: Columns,
  state?: Tensor,
): { weight: Tensor; bias: Tensor } {
  const block = blockOf(device.info.software);
  const blocks = Math.ceil(o.length / block);
  const shares = allocateTensor(device, { shape: [o.batch * blocks, 5, o.channels], dtype: 'float32' });
  const direct = o.repeat
    ? {
        tensor: allocateTensor(device, { shape: [o.batch, o.length, o.channels], dtype: 'float32' }),
        offset: 0,
        stride: o.channels,
      }
    : dx;
  const width = widthOf(device, o, direct);
  const count = (o.batch * blocks * o.channels) / width;
  device.dispatch(convolutionGradientKernel, {
    bindings: { ...inputs(o), state: state?.range(), g: g.range(), dx: direct.tensor.range(), shares: shares.range() },
    params: { ...paramsOf(o, direct, block, width), count },
    constants: { vector: width === 4 },
    groups: Math.ceil(count / device.workgroupOf(convolutionGradientKernel)),
  });
  if (o.repeat) {
    const sources = 2 * o.repeat.keyValueSize + o.repeat.innerSize;
    const columns = o.batch * o.length * sources;
    device.dispatch(foldChannelsKernel, {
      bindings: { g: direct.tensor.range(), dx: dx.tensor.range() },
      params: { ...paramsOf(o, dx, block), columns: sources, count: columns },
      groups: Math.ceil(columns / device.workgroupOf(foldChannelsKernel)),
    });
  }
  const totals = sum(shares, { axes: [0] });
  const weight = allocateTensor(device, o.weight);
  const bias = allocateTensor(device, o.bias);
  device.dispatch(convolutionSharesKernel, {
    bindings: { totals: totals.range(), weight: weight.range(), bias: bias.range() },
    params: { count: o.channels },
    groups: Math.ceil(o.channels / device.workgroupOf(convolutionSharesKernel)),
  });
  return { weight, bias };
}

/** Brings `state` [B, C, 4] up to date in place; with `y` (T = 1 only) gives the convolution's output too. */
export function launchConvolutionState(device: Device, o: ConvolutionOperands, state: Tensor, y?: Tensor): void {
  const count = o.batch * o.channels;
  const { x, segments, weight, bias } = inputs(o);
  device.dispatch(convolutionStateKernel, {
    bindings: { x, segments, state: state.range(), ...(y && { weight, bias, y: y.range() }) },
    params: { ...paramsOf(o, { offset: 0, stride: o.channels }, o.length), count },
    groups: Math.ceil(count / device.workgroupOf(convolutionStateKernel)),
  });
}
