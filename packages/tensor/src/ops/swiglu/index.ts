import { allocateTensor, defineOp } from '../../core/define-op.js';
import { sameShape, shapeError } from '../../core/shape.js';
import type { Tensor } from '../../core/tensor.js';
import { blockGroups } from '../../device/kernel.js';
import { assertComputable } from '../row/checks.js';
import { swigluReference } from './reference.js';
import { forwardKernel, gradientKernel } from './swiglu.wgsl.js';

/** {@link swiglu} as an operation. */
export const swigluOp = defineOp<Record<never, never>>({
  name: 'swiglu',
  shape([gate, up]) {
    assertComputable('swiglu', 'gate', gate!);
    assertComputable('swiglu', 'up', up!);
    if (!sameShape(gate!.shape, up!.shape)) {
      shapeError('swiglu', 'up', `[${gate!.shape.join(', ')}] like gate`, up!.shape);
    }
    return [{ shape: gate!.shape, dtype: gate!.dtype === up!.dtype ? gate!.dtype : 'float32' }];
  },
  forward({ device, inputs: [gate, up], outputs: [y] }) {
    const { count, constants } = plan(y!);
    device.dispatch(forwardKernel, {
      bindings: { gate: gate!.range(), up: up!.range(), y: y!.range() },
      params: { count },
      constants,
      groups: blockGroups(device, forwardKernel, count),
    });
  },
  saves: { outputs: [] },
  backward({ device, inputs: [gate, up], gradients: [g], needs }) {
    const { count, constants } = plan(g!);
    const dGate = needs[0] ? allocateTensor(device, gate!) : undefined;
    const dUp = needs[1] ? allocateTensor(device, up!) : undefined;
    device.dispatch(gradientKernel, {
      bindings: { g: g!.range(), gate: gate!.range(), up: up!.range(), d_gate: dGate?.range(), d_up: dUp?.range() },
      params: { count },
      constants,
      groups: blockGroups(device, gradientKernel, count),
    });
    return [dGate, dUp];
  },
  reference: swigluReference,
});

function plan({ size }: Tensor): { count: number; constants: { width: number } } {
  const width = size % 4 === 0 ? 4 : 1;
  return { count: size / width, constants: { width } };
}

/**
 * silu(gate) · up elementwise, the activation of Llama's and Qwen's feed-forward layers. Formula: Shazeer, "GLU
 * Variants Improve Transformer" (2020).
 *
 * @param gate any shape, float32 or float16
 * @param up the same shape
 * @returns the same shape; float16 if both inputs are, else float32; the caller owns it
 * @throws ZebraError `shape` or `dtype` when the inputs do not fit
 */
export function swiglu(gate: Tensor, up: Tensor): Tensor {
  return swigluOp.apply([gate, up], {})[0]!;
}
