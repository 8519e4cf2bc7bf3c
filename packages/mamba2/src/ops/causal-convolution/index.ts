import { allocateTensor, defineOp, type Tensor, ZebraError } from '@zebra/tensor';
import { columns, expectArgument } from '../../rows.js';
import { type ConvolutionOperands, launchConvolution, launchConvolutionGradient } from './launch.js';
import { convolutionReference, convolutionReferenceBackward } from './reference.js';

const NAME = 'causalConvolution';

function operands(inputs: readonly (Tensor | undefined)[]): ConvolutionOperands {
  const [x, weight, bias, segments] = inputs;
  const [batch, length, channels] = x!.shape as [number, number, number];
  return { batch, length, channels, x: columns(x!), weight: weight!, bias: bias!, segments };
}

/** The operation; inputs: x, weight, bias, segments, state. */
export const causalConvolutionOp = defineOp<Record<never, never>>({
  name: NAME,
  shape([x, weight, bias, segments, state]) {
    if (x!.shape.length !== 3)
      throw new ZebraError('shape', `${NAME}: x must be [B, T, C], got [${x!.shape.join(', ')}]`);
    const [batch, length, channels] = x!.shape as [number, number, number];
    expectArgument(NAME, 'x', x, x!.shape);
    expectArgument(NAME, 'weight', weight, [channels, 1, 4]);
    expectArgument(NAME, 'bias', bias, [channels]);
    if (segments) expectArgument(NAME, 'segments', segments, [batch, length], 'int32');
    if (state) expectArgument(NAME, 'state', state, [batch, channels, 4], 'float32');
    return [x!];
  },
  forward: ({ device, inputs, outputs: [y] }) => launchConvolution(device, operands(inputs), y!, inputs[4]),
  backward({ device, inputs, gradients: [g] }) {
    const dx = allocateTensor(device, inputs[0]!);
    const { weight, bias } = launchConvolutionGradient(device, operands(inputs), g!, columns(dx), inputs[4]);
    return [dx, weight, bias];
  },
  reference: {
    forward: (inputs) => [convolutionReference(inputs)],
    backward: (inputs, _attributes, [g]) => convolutionReferenceBackward(inputs, g!),
  },
});

/** Options of {@link causalConvolution}. */
export interface CausalConvolutionOptions {
  /** int32 [B, T]: document number of each token, negative for padding. Taps never reach into another document. */
  readonly segments?: Tensor;
  /** The last 4 inputs before the row, oldest first, float32 [B, C, 4]; not changed. Zeros by default. */
  readonly state?: Tensor;
}

/**
 * SiLU of a depthwise causal convolution of width 4: y_t = silu(bias + Σ_k weight[:, 0, 3−k]·x_{t−k}).
 *
 * @param x [B, T, C] float
 * @param weight [C, 1, 4], the newest input's weight last
 * @param bias [C]
 * @returns [B, T, C], zero at padding; differentiable in x, weight and bias
 * @throws ZebraError `shape` or `dtype` that names the argument
 */
export function causalConvolution(
  x: Tensor,
  weight: Tensor,
  bias: Tensor,
  options: CausalConvolutionOptions = {},
): Tensor {
  return causalConvolutionOp.apply([x, weight, bias, options.segments, options.state], {})[0]!;
}
