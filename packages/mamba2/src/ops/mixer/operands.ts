import type { Tensor } from '@zebra/tensor';
import type { Mamba2Sizes } from '../../config.js';
import { columns } from '../../rows.js';
import type { ConvolutionOperands } from '../causal-convolution/launch.js';
import type { GatedNormOperands } from '../gated-norm/launch.js';
import type { SsdOperands } from '../ssd/operands.js';

/** Inputs of the mixer operations, in order. */
export interface MixerInputs {
  /** Output of `in_proj`, [B, T, z | x | B | C | dt]. */
  readonly row: Tensor;
  readonly convWeight: Tensor;
  readonly convBias: Tensor;
  readonly dtBias: Tensor;
  readonly aLog: Tensor;
  readonly skip: Tensor;
  readonly normWeight: Tensor;
  readonly segments: Tensor | undefined;
}

/** Names the inputs of a mixer operation. */
export function mixerInputs(inputs: readonly (Tensor | undefined)[]): MixerInputs {
  const [row, convWeight, convBias, dtBias, aLog, skip, normWeight, segments] = inputs as Tensor[];
  return {
    row: row!,
    convWeight: convWeight!,
    convBias: convBias!,
    dtBias: dtBias!,
    aLog: aLog!,
    skip: skip!,
    normWeight: normWeight!,
    segments,
  };
}

/** Where the parts of `in_proj`'s output begin. */
export function rowOffsets(sizes: Mamba2Sizes) {
  return { z: 0, convolved: sizes.innerSize, dt: 2 * sizes.innerSize + 2 * sizes.xbSize };
}

/** Where x, B and C begin in the convolution's output, and how many heads share one x and B there. */
export function convolvedLayout(sizes: Mamba2Sizes) {
  const width = sizes.repeatKvBeforeConv ? sizes.innerSize : sizes.xbSize;
  return { x: 0, b: width, c: 2 * width, group: sizes.repeatKvBeforeConv ? 1 : sizes.groupSize };
}

/** The convolution's part of the work. */
export function convolutionOperands(input: MixerInputs, sizes: Mamba2Sizes): ConvolutionOperands {
  const { row, convWeight, convBias, segments } = input;
  const { headDim, groupSize, xbSize, innerSize } = sizes;
  return {
    batch: row.shape[0]!,
    length: row.shape[1]!,
    channels: sizes.convSize,
    x: columns(row, rowOffsets(sizes).convolved),
    weight: convWeight,
    bias: convBias,
    segments,
    ...(sizes.repeatKvBeforeConv && { repeat: { headDim, group: groupSize, keyValueSize: xbSize, innerSize } }),
  };
}

/** The state space's part, of the convolution's output. */
export function ssdOperands(input: MixerInputs, xbc: Tensor, sizes: Mamba2Sizes, continued: boolean): SsdOperands {
  const layout = convolvedLayout(sizes);
  return {
    batch: xbc.shape[0]!,
    length: xbc.shape[1]!,
    heads: sizes.headCount,
    group: layout.group,
    headDim: sizes.headDim,
    stateSize: sizes.headDim,
    x: columns(xbc, layout.x),
    b: columns(xbc, layout.b),
    c: columns(xbc, layout.c),
    dt: columns(input.row, rowOffsets(sizes).dt),
    dtBias: input.dtBias,
    aLog: input.aLog,
    skip: input.skip,
    segments: input.segments,
    continued,
  };
}

/** The gated norm's part. */
export function normOperands(input: MixerInputs, y: Tensor, sizes: Mamba2Sizes): GatedNormOperands {
  return {
    y,
    z: columns(input.row, rowOffsets(sizes).z),
    weight: input.normWeight,
    groupSize: sizes.headDim,
    epsilon: sizes.normEpsilon,
  };
}
