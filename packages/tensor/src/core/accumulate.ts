import { defineKernel, linearMain } from '../device/kernel.js';
import { allocateTensor } from './define-op.js';
import { keep } from './scope.js';
import type { Tensor } from './tensor.js';

/**
 * The sum of two gradients of one tensor, as a new tensor: either may be shared with another gradient. Disposes of both.
 */
export function accumulate(sum: Tensor, gradient: Tensor): Tensor {
  const total = keep(allocateTensor(sum.device, sum));
  sum.device.dispatch(accumulateKernel, {
    bindings: { a: sum.range(), b: gradient.range(), y: total.range() },
    params: { count: sum.size },
    groups: Math.ceil(sum.size / sum.device.workgroupOf(accumulateKernel)),
  });
  sum.dispose();
  gradient.dispose();
  return total;
}

const accumulateKernel = defineKernel({
  name: 'accumulate',
  bindings: { a: 'read', b: 'read', y: 'write' },
  params: { count: 'u32' },
  source: () => linearMain('p.count', '  y[i] = y_t(f32(a[i]) + f32(b[i]));'),
});
