import { allocateTensor, defineOp } from '../../core/define-op.js';
import { sameShape, shapeError, showShape } from '../../core/shape.js';
import type { Tensor } from '../../core/tensor.js';
import { assertComputable } from '../row/checks.js';
import { planRows, rowGroups } from '../row/row-lanes.wgsl.js';
import { rowDistanceReference } from './reference.js';
import { forwardKernel, gradientKernel } from './row-distance.wgsl.js';

/** The Euclidean distance of rows as an operation. */
export const rowDistanceOp = defineOp<Record<never, never>>({
  name: 'rowDistance',
  shape([a, b]) {
    assertComputable('rowDistance', 'a', a!);
    assertComputable('rowDistance', 'b', b!);
    if (!sameShape(a!.shape, b!.shape)) shapeError('rowDistance', 'b', showShape(a!.shape), b!.shape);
    const lead = a!.shape.slice(0, -1);
    return [{ shape: lead.length > 0 ? lead : [1], dtype: 'float32' }];
  },
  forward({ device, inputs: [a, b], outputs: [y] }) {
    const plan = planRows(device, a!.size / y!.size, { rows: y!.size });
    device.dispatch(forwardKernel, {
      bindings: { a: a!.range(), b: b!.range(), y: y!.range() },
      params: { rows: y!.size, units: plan.units },
      constants: plan.constants,
      groups: rowGroups(device, forwardKernel, y!.size, plan),
    });
  },
  backward({ device, inputs: [a, b], outputs: [y], gradients: [g], needs }) {
    const plan = planRows(device, a!.size / y!.size, { rows: y!.size });
    return [a!, b!].map((operand, index) => {
      if (!needs[index]) return undefined;
      const d = allocateTensor(device, operand);
      device.dispatch(gradientKernel, {
        bindings: { a: a!.range(), b: b!.range(), y: y!.range(), g: g!.range(), d: d.range() },
        params: { rows: y!.size, units: plan.units, sign: index === 0 ? 1 : -1 },
        constants: plan.constants,
        groups: rowGroups(device, gradientKernel, y!.size, plan),
      });
      return d;
    });
  },
  reference: rowDistanceReference,
});

/**
 * ‖a_i − b_i‖₂ of each row: neither squared nor divided by D. Its mean over tokens is the loss of intermediate-layer
 * distillation (Zebra-Llama, arXiv 2505.17272). Summed in float32. The gradient is 0 where the rows are equal.
 *
 * @param a [..., D], float32 or float16
 * @param b [..., D]. Gradients reach both
 * @returns [...] ([1] for a single row), float32; the caller owns it
 * @throws ZebraError `shape` or `dtype` for inputs that do not fit
 */
export function rowDistance(a: Tensor, b: Tensor): Tensor {
  return rowDistanceOp.apply([a, b], {})[0]!;
}
