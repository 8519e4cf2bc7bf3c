import { allocateTensor, defineOp, type Op } from '../../core/define-op.js';
import type { Tensor } from '../../core/tensor.js';
import type { Kernel } from '../../device/kernel.js';
import { ZebraError } from '../../errors.js';
import { assertComputable } from '../row/checks.js';
import { heldUnits, planRows, rowGroups } from '../row/row-lanes.wgsl.js';
import { softmaxReference } from './reference.js';
import { forwardKernel, gradientKernel } from './softmax.wgsl.js';

/** Options of {@link softmax} and {@link logSoftmax}. */
export interface SoftmaxOptions {
  /** The dimension to normalise over: the last one, -1, is the only one there is. Default -1. */
  readonly axis?: number;
}

function run(kernel: Kernel, bindings: Readonly<Record<string, Tensor>>, output: Tensor, logarithm: boolean): void {
  const { device, shape, size } = output;
  const columns = shape[shape.length - 1]!;
  const rows = size / columns;
  const plan = planRows(device, columns, { rows });
  device.dispatch(kernel, {
    bindings: Object.fromEntries(Object.entries(bindings).map(([name, tensor]) => [name, tensor.range()])),
    params: { rows, units: plan.units },
    constants: { ...plan.constants, logarithm, held: heldUnits(device, plan) },
    groups: rowGroups(device, kernel, rows, plan),
  });
}

function define(name: string, logarithm: boolean): Op<Record<never, never>> {
  return defineOp<Record<never, never>>({
    name,
    shape([x]) {
      assertComputable(name, 'x', x!);
      return [x!];
    },
    forward({ inputs: [x], outputs: [y] }) {
      run(forwardKernel, { x: x!, y: y! }, y!, logarithm);
    },
    saves: { inputs: [] },
    backward({ device, inputs: [x], outputs: [y], gradients: [g] }) {
      const d = allocateTensor(device, x!);
      run(gradientKernel, { g: g!, y: y!, d }, d, logarithm);
      return [d];
    },
    reference: softmaxReference(logarithm),
  });
}

/** {@link softmax} as an operation. */
export const softmaxOp = define('softmax', false);
/** {@link logSoftmax} as an operation. */
export const logSoftmaxOp = define('logSoftmax', true);

function assertLastAxis(name: string, x: Tensor, { axis = -1 }: SoftmaxOptions): void {
  if (axis !== -1 && axis !== x.shape.length - 1) {
    throw new ZebraError(
      'argument',
      `${name}: axis must be the last one (-1), got ${axis}. Move it there with a transpose.`,
    );
  }
}

/**
 * exp(x) / Σ exp(x) over the last dimension, in float32 and with the maximum subtracted. Entries may be −∞ (they give
 * 0); a row of nothing but −∞ gives zeros.
 *
 * @param x [..., V], float32 or float16
 * @returns [..., V], of the dtype of `x`; the caller owns it
 * @throws ZebraError `dtype`; `argument` for another axis than the last
 */
export function softmax(x: Tensor, options: SoftmaxOptions = {}): Tensor {
  assertLastAxis('softmax', x, options);
  return softmaxOp.apply([x], {})[0]!;
}

/**
 * x − log Σ exp(x) over the last dimension, in float32 and with the maximum subtracted. Entries may be −∞, and stay so.
 *
 * @param x [..., V], float32 or float16
 * @returns [..., V], of the dtype of `x`; the caller owns it
 * @throws ZebraError `dtype`; `argument` for another axis than the last
 */
export function logSoftmax(x: Tensor, options: SoftmaxOptions = {}): Tensor {
  assertLastAxis('logSoftmax', x, options);
  return logSoftmaxOp.apply([x], {})[0]!;
}
