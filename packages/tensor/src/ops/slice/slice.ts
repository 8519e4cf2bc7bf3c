import { allocateTensor, defineOp } from '../../core/define-op.js';
import { shapeError } from '../../core/shape.js';
import type { Tensor } from '../../core/tensor.js';
import { assertMovable, resolveAxis, withSize } from './axis.js';
import { copyBlock } from './copy-block.js';
import { sliceReference } from './reference.js';

/** Attributes of `slice`. */
export interface SliceAttributes {
  readonly axis: number;
  readonly start: number;
  readonly length: number;
}

/** A range of positions along an axis as an operation. */
export const sliceOp = defineOp<SliceAttributes>({
  name: 'slice',
  shape([x], { axis, start, length }) {
    assertMovable('slice', 'x', x!.dtype);
    const size = x!.shape[axis]!;
    const whole = Number.isInteger(start) && Number.isInteger(length);
    if (!whole || start < 0 || length < 1 || start + length > size) {
      shapeError(
        'slice',
        'start and length',
        `a range of at least one position within ${size}`,
        `${start} and ${length}`,
      );
    }
    return [{ shape: withSize(x!.shape, axis, length), dtype: x!.dtype }];
  },
  forward({ inputs: [x], outputs: [y], attributes: { axis, start, length } }) {
    copyBlock(x!, y!, { axis, start: 0, length, from: start });
  },
  saves: { inputs: [], outputs: [] },
  backward({ device, inputs: [x], gradients: [g], attributes: { axis, start } }) {
    const d = allocateTensor(device, x!);
    copyBlock(g!, d, { axis, start: 0, length: x!.shape[axis]!, from: -start });
    return [d];
  },
  reference: {
    forward: ([x], { axis, start, length }) => [sliceReference(x!, axis, start, length)],
    backward: ([x], { axis, start }, [g]) => [sliceReference(g!, axis, -start, x!.shape[axis]!)],
  },
});

/**
 * The positions [start, start + length) of `x` along one dimension, copied.
 *
 * @param x any shape; any dtype but bfloat16
 * @param axis the dimension; negative ones count from the end
 * @throws ZebraError `shape` when the axis or the range lies outside of `x`; `dtype` for bfloat16
 */
export function slice(x: Tensor, axis: number, start: number, length: number): Tensor {
  return sliceOp.apply([x], { axis: resolveAxis('slice', x.shape, axis), start, length })[0]!;
}
