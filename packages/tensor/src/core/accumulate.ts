import { blockGroups, defineKernel, wideWorkgroup } from '../device/kernel.js';
import { LANES, pointwiseMain, takesVectors, vectorsWhere } from '../ops/pointwise/lanes.wgsl.js';
import { allocateTensor } from './define-op.js';
import { keep } from './scope.js';
import type { Tensor } from './tensor.js';

/**
 * Whether nobody else has a handle on a tensor's memory, so that it may be changed. A gradient that an operation made
 * is its gradient's alone, until a view of it is handed on.
 */
export function isExclusive(tensor: Tensor): boolean {
  return tensor.storage.references === 1;
}

/**
 * The sum of two gradients of one tensor, in the memory of the first where that is {@link isExclusive}, else of the
 * second, else in new memory. Disposes of what it does not return.
 */
export function accumulate(sum: Tensor, gradient: Tensor): Tensor {
  const inPlace = [sum, gradient].find((one) => isExclusive(one) && one.dtype === sum.dtype);
  const total = inPlace ?? keep(sum.device.naming('accumulate', () => allocateTensor(sum.device, sum)));
  const vector = takesVectors(sum.size);
  const count = vector ? sum.size / LANES : sum.size;
  sum.device.dispatch(accumulateKernel, {
    bindings: {
      a: total === sum ? undefined : sum.range(),
      b: total === gradient ? undefined : gradient.range(),
      y: total.range(),
    },
    params: { count },
    constants: { vector },
    groups: blockGroups(sum.device, accumulateKernel, count),
  });
  for (const one of [sum, gradient]) if (one !== total) one.dispose();
  return total;
}

const accumulateKernel = defineKernel({
  name: 'accumulate',
  bindings: { a: 'read', b: 'read', y: 'write' },
  params: { count: 'u32' },
  vectors: vectorsWhere(['a', 'b', 'y']),
  itemwise: () => ['a', 'b', 'y'],
  workgroup: wideWorkgroup,
  source: (variant) => {
    const { has } = variant;
    return pointwiseMain(variant, { one: has('a') ? 'a' : 'y', other: has('b') ? 'b' : 'y' }, 'y', 'one + other');
  },
});
