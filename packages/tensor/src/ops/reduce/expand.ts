import { allocateTensor } from '../../core/define-op.js';
import type { Shape, TensorSpec } from '../../core/shape.js';
import type { Tensor } from '../../core/tensor.js';
import { defineKernel, linearMain } from '../../device/kernel.js';
import { ZebraError } from '../../errors.js';
import { MAX_DIMENSIONS, planBroadcast } from '../pointwise/broadcast.js';

const DIMENSIONS = Array.from({ length: MAX_DIMENSIONS }, (_, d) => d);

/** Repeats `x`, seen as `shape`, to the shape and dtype of `target`: a new tensor. */
export function expandInto(x: Tensor, shape: Shape, target: TensorSpec): Tensor {
  const plan = planBroadcast([target.shape, shape]);
  if (!plan) throw new ZebraError('shape', `expand: ${shape.join('×')} does not repeat to ${target.shape.join('×')}`);
  const y = allocateTensor(x.device, target);
  const params: Record<string, number> = { count: y.size };
  for (const d of DIMENSIONS) {
    params[`n${d}`] = plan.sizes[d]!;
    params[`s${d}`] = plan.strides[1]![d]!;
  }
  x.device.dispatch(expandKernel, {
    bindings: { x: x.range(), y: y.range() },
    params,
    groups: Math.ceil(y.size / x.device.workgroupOf(expandKernel)),
  });
  return y;
}

const expandKernel = defineKernel({
  name: 'expand',
  bindings: { x: 'read', y: 'write' },
  params: {
    count: 'u32',
    ...(Object.fromEntries(
      DIMENSIONS.flatMap((d) => [
        [`n${d}`, 'u32'],
        [`s${d}`, 'u32'],
      ]),
    ) as Record<string, 'u32'>),
  },
  source: () =>
    linearMain(
      'p.count',
      `  var rest = i; var at = 0u;
${[...DIMENSIONS]
  .reverse()
  .map((d) => `  { let c = rest % p.n${d}; rest /= p.n${d}; at += c * p.s${d}; }`)
  .join('\n')}
  y[i] = y_t(x[at]);`,
    ),
});
