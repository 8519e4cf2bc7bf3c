import { allocateTensor, defineOp } from '../../core/define-op.js';
import { hostTensor } from '../../core/host.js';
import { shapeError } from '../../core/shape.js';
import type { Tensor } from '../../core/tensor.js';
import { assertMovable, resolveAxis, withSize } from './axis.js';
import { clearBlock, copyBlock } from './copy-block.js';
import { concatReference, sliceReference } from './reference.js';

/** Attributes of `split`. */
export interface SplitAttributes {
  readonly axis: number;
  readonly sizes: readonly number[];
}

/** First position of each part. */
function startsOf(sizes: readonly number[]): number[] {
  let next = 0;
  return sizes.map((size) => {
    next += size;
    return next - size;
  });
}

/** All parts of a tensor along an axis as one operation, whose gradient is put together in one piece of memory. */
export const splitOp = defineOp<SplitAttributes>({
  name: 'split',
  shape([x], { axis, sizes }) {
    assertMovable('split', 'x', x!.dtype);
    const size = x!.shape[axis]!;
    const fits = sizes.length > 0 && sizes.every((part) => Number.isInteger(part) && part > 0);
    if (!fits || sizes.reduce((sum, part) => sum + part, 0) !== size) {
      shapeError('split', 'sizes', `positive integers that add up to ${size}`, sizes);
    }
    return sizes.map((part) => ({ shape: withSize(x!.shape, axis, part), dtype: x!.dtype }));
  },
  forward({ inputs: [x], outputs, attributes: { axis, sizes } }) {
    startsOf(sizes).forEach((from, k) => {
      copyBlock(x!, outputs[k]!, { axis, start: 0, length: sizes[k]!, from });
    });
  },
  saves: { inputs: [], outputs: [] },
  backward({ device, inputs: [x], gradients, attributes: { axis, sizes } }) {
    const any = gradients.find((gradient) => gradient !== undefined);
    if (!any) return [undefined];
    const d = allocateTensor(device, x!);
    startsOf(sizes).forEach((start, k) => {
      const gradient = gradients[k];
      const block = { axis, start, length: sizes[k]! };
      if (gradient) copyBlock(gradient, d, { ...block, from: 0 });
      else clearBlock(any, d, block);
    });
    return [d];
  },
  reference: {
    forward: ([x], { axis, sizes }) => startsOf(sizes).map((start, k) => sliceReference(x!, axis, start, sizes[k]!)),
    backward: ([x], { axis, sizes }, gradients) => [
      concatReference(
        sizes.map((size, k) => gradients[k] ?? hostTensor(withSize(x!.shape, axis, size))),
        axis,
      ),
    ],
  },
});

/**
 * Cuts a tensor along one dimension into parts, each copied.
 *
 * @param x any shape; any dtype but bfloat16
 * @param axis the dimension; negative ones count from the end
 * @param sizes size of each part along the axis; they add up to x's
 * @throws ZebraError `shape` when they do not; `dtype` for bfloat16
 */
export function split(x: Tensor, axis: number, sizes: readonly number[]): Tensor[] {
  return splitOp.apply([x], { axis: resolveAxis('split', x.shape, axis), sizes });
}
