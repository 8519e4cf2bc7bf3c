import { allocateTensor, type Device, defineOp, type Tensor, type TensorSpec, ZebraError } from '@zebra/tensor';
import type { Mamba2Sizes } from '../../config.js';
import { columns, expectArgument } from '../../rows.js';
import { launchConvolution, launchConvolutionGradient, launchConvolutionState } from '../causal-convolution/launch.js';
import { launchGatedNorm, launchGatedNormGradient } from '../gated-norm/launch.js';
import { gradientDtype, launchBackward, launchForward } from '../ssd/launch.js';
import {
  convolutionOperands,
  convolvedLayout,
  type MixerInputs,
  mixerInputs,
  normOperands,
  rowOffsets,
  ssdOperands,
} from './operands.js';
import { mixerReference, mixerReferenceBackward } from './reference.js';
import { stepMixer } from './step.js';

function checkShapes(name: string, inputs: readonly (TensorSpec | undefined)[], sizes: Mamba2Sizes): TensorSpec {
  const [row, convWeight, convBias, dtBias, aLog, skip, normWeight, segments] = inputs;
  if (row!.shape.length !== 3)
    throw new ZebraError('shape', `${name}: row must be [B, T, width], got [${row!.shape.join(', ')}]`);
  const [batch, length] = row!.shape as [number, number];
  expectArgument(name, 'row', row, [batch, length, sizes.projectionSize]);
  expectArgument(name, 'conv1d.weight', convWeight, [sizes.convSize, 1, sizes.convKernel]);
  expectArgument(name, 'conv1d.bias', convBias, [sizes.convSize]);
  expectArgument(name, 'dt_bias', dtBias, [sizes.headCount]);
  expectArgument(name, 'A_log', aLog, [sizes.headCount]);
  expectArgument(name, 'D', skip, [sizes.headCount]);
  expectArgument(name, 'norm.weight', normWeight, [sizes.innerSize]);
  if (segments) expectArgument(name, 'segments', segments, [batch, length], 'int32');
  return { shape: [batch, length, sizes.innerSize], dtype: row!.dtype };
}

function convolve(device: Device, input: MixerInputs, sizes: Mamba2Sizes, state?: Tensor): Tensor {
  const [batch, length] = input.row.shape as [number, number];
  const xbc = allocateTensor(device, { shape: [batch, length, sizes.convSize], dtype: input.row.dtype });
  launchConvolution(device, convolutionOperands(input, sizes), xbc, state);
  return xbc;
}

/**
 * The whole layer between its two projections, as one operation: convolution, state space and gated norm. They read
 * their parts of `in_proj`'s output in place and write their parts of its gradient in place, so that nothing is split,
 * joined or added up. Inputs: the row, conv1d.weight, conv1d.bias, dt_bias, A_log, D, norm.weight, segments. Kept for
 * the gradient: the row and the state space's y; the rest is recomputed.
 */
export const mixerOp = defineOp<Mamba2Sizes>({
  name: 'mamba2Mixer',
  shape(inputs, sizes) {
    const out = checkShapes('mamba2Mixer', inputs, sizes);
    return [out, out];
  },
  forward({ device, inputs, outputs: [out, y], attributes: sizes }) {
    const input = mixerInputs(inputs);
    const xbc = convolve(device, input, sizes);
    launchForward(device, ssdOperands(input, xbc, sizes, false), columns(y!));
    launchGatedNorm(device, normOperands(input, y!, sizes), out!);
  },
  backward({ device, inputs, outputs: [, y], gradients: [g], attributes: sizes }) {
    const input = mixerInputs(inputs);
    const xbc = convolve(device, input, sizes);
    const row = allocateTensor(device, input.row);
    const at = rowOffsets(sizes);
    const ssd = ssdOperands(input, xbc, sizes, false);
    const dtype = gradientDtype(device, ssd);
    const dy = allocateTensor(device, { shape: y!.shape, dtype });
    const norm = launchGatedNormGradient(device, normOperands(input, y!, sizes), g!, dy, columns(row, at.z));
    const dxbc = allocateTensor(device, { shape: xbc.shape, dtype });
    const layout = convolvedLayout(sizes);
    const into = {
      x: columns(dxbc, layout.x),
      b: columns(dxbc, layout.b),
      c: columns(dxbc, layout.c),
      dt: columns(row, at.dt),
    };
    const gates = launchBackward(device, ssd, dy, into);
    const convolution = convolutionOperands(input, sizes);
    const { weight, bias } = launchConvolutionGradient(device, convolution, dxbc, columns(row, at.convolved));
    return [row, weight, bias, gates.dtBias, gates.aLog, gates.skip, norm];
  },
  // The result itself is not read again: y is.
  saves: { outputs: [1] },
  reference: {
    forward: (inputs, sizes) => mixerReference(inputs, sizes),
    backward: (inputs, sizes, [g]) => mixerReferenceBackward(inputs, sizes, g!),
  },
});

/**
 * {@link mixerOp} with two more inputs, the state of the convolution [B, C, 4] and of the state space [B, H, P, N]: both
 * are continued from and updated in place. One token takes the step kernels. No gradient.
 */
export const statefulMixerOp = defineOp<Mamba2Sizes>({
  name: 'mamba2MixerWithState',
  shape(inputs, sizes) {
    const out = checkShapes('mamba2MixerWithState', inputs, sizes);
    const batch = out.shape[0]!;
    expectArgument('mamba2MixerWithState', 'state.conv', inputs[8], [batch, sizes.convSize, 4], 'float32');
    const state = [batch, sizes.headCount, sizes.headDim, sizes.headDim];
    expectArgument('mamba2MixerWithState', 'state.ssm', inputs[9], state, 'float32');
    return [out];
  },
  forward({ device, inputs, outputs: [out], attributes: sizes }) {
    const input = mixerInputs(inputs);
    const [conv, ssm] = [inputs[8]!, inputs[9]!];
    if (input.row.shape[1] === 1) return stepMixer(device, input, { conv, ssm }, out!, sizes);
    const y = allocateTensor(device, out!);
    const xbc = convolve(device, input, sizes, conv);
    launchConvolutionState(device, convolutionOperands(input, sizes), conv);
    launchForward(device, ssdOperands(input, xbc, sizes, true), columns(y), ssm);
    launchGatedNorm(device, normOperands(input, y, sizes), out!);
  },
  reference: {
    forward: (inputs, sizes) => mixerReference(inputs, sizes, [inputs[8]!, inputs[9]!]).slice(0, 1),
  },
});
