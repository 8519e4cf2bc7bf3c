import { allocateTensor, type Device, type Tensor } from '@zebra/tensor';
import type { Mamba2Sizes } from '../../config.js';
import { launchConvolutionState } from '../causal-convolution/launch.js';
import { launchGatedNorm } from '../gated-norm/launch.js';
import { launchStep } from '../ssd/launch.js';
import { MOST_PARTIAL, stepNormKernel } from '../ssd/step-norm.wgsl.js';
import {
  convolutionOperands,
  convolvedLayout,
  type MixerInputs,
  normOperands,
  rowOffsets,
  ssdOperands,
} from './operands.js';

/** The states of a layer, updated in place. */
interface States {
  readonly conv: Tensor;
  readonly ssm: Tensor;
}

/** One token of each sequence: two dispatches on a GPU, three on a CPU, which has no use for barriers. */
export function stepMixer(
  device: Device,
  input: MixerInputs,
  { conv, ssm }: States,
  out: Tensor,
  sizes: Mamba2Sizes,
): void {
  const xbc = allocateTensor(device, { shape: [out.shape[0]!, 1, sizes.convSize], dtype: out.dtype });
  launchConvolutionState(device, convolutionOperands(input, sizes), conv, xbc);
  const lanes = lanesOf(sizes);
  if (device.info.software || sizes.headDim * lanes > MOST_PARTIAL) {
    const y = allocateTensor(device, out);
    launchStep(device, ssdOperands(input, xbc, sizes, true), y, ssm);
    launchGatedNorm(device, normOperands(input, y, sizes), out);
    return;
  }
  const layout = convolvedLayout(sizes);
  const at = rowOffsets(sizes);
  const count = out.shape[0]! * sizes.headCount;
  device.dispatch(stepNormKernel, {
    bindings: {
      xbc: xbc.range(),
      row: input.row.range(),
      dt_bias: input.dtBias.range(),
      a_log: input.aLog.range(),
      skip: input.skip.range(),
      weight: input.normWeight.range(),
      segments: input.segments?.range(),
      state: ssm.range(),
      out: out.range(),
    },
    params: {
      count,
      heads: sizes.headCount,
      group: layout.group,
      cols: sizes.headDim,
      x_offset: layout.x,
      b_offset: layout.b,
      c_offset: layout.c,
      stride: sizes.convSize,
      z_offset: at.z,
      dt_offset: at.dt,
      row_stride: sizes.projectionSize,
      epsilon: sizes.normEpsilon,
    },
    constants: { rows: sizes.headDim, lanes, width: widthOf(sizes) },
    groups: count,
  });
}

const widthOf = ({ headDim }: Mamba2Sizes) => (headDim % 4 === 0 ? 4 : 1);

/** Lanes that share a row of the state: one a vector, at most 16. */
function lanesOf(sizes: Mamba2Sizes): number {
  const units = sizes.headDim / widthOf(sizes);
  return [16, 8, 4, 2].find((lanes) => lanes <= units) ?? 1;
}
