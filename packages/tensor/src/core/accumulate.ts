import { defineKernel } from '../device/kernel.js';
import { LANES, pointwiseMain, takesVectors, vectorsWhere } from '../ops/pointwise/lanes.wgsl.js';
import { allocateTensor } from './define-op.js';
import { keep } from './scope.js';
import type { Tensor } from './tensor.js';

/**
 * The sum of two gradients of one tensor, as a new tensor: either may be shared with another gradient. Disposes of both.
 */
export function accumulate(sum: Tensor, gradient: Tensor): Tensor {
  const total = keep(allocateTensor(sum.device, sum));
  const vector = takesVectors(sum.size);
  const count = vector ? sum.size / LANES : sum.size;
  sum.device.dispatch(accumulateKernel, {
    bindings: { a: sum.range(), b: gradient.range(), y: total.range() },
    params: { count },
    constants: { vector },
    groups: Math.ceil(count / sum.device.workgroupOf(accumulateKernel)),
  });
  sum.dispose();
  gradient.dispose();
  return total;
}

const accumulateKernel = defineKernel({
  name: 'accumulate',
  bindings: { a: 'read', b: 'read', y: 'write' },
  params: { count: 'u32' },
  vectors: vectorsWhere(['a', 'b', 'y']),
  source: ({ constants }) => pointwiseMain({ one: 'a', other: 'b' }, 'y', 'one + other', Boolean(constants['vector'])),
});
