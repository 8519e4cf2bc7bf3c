import { allocateTensor, defineOp } from '../../core/define-op.js';
import { dtypeError, sameShape, shapeError, type TensorSpec } from '../../core/shape.js';
import type { Tensor } from '../../core/tensor.js';
import { ZebraError } from '../../errors.js';
import { assertMovable, resolveAxis, withSize } from '../slice/axis.js';
import { copyBlock } from '../slice/copy-block.js';
import { concatReference, sliceReference } from './reference.js';

/** Attributes of `concat`. */
export interface ConcatAttributes {
  readonly axis: number;
}

/** First position of each part along the axis. */
function startsOf(parts: readonly (Pick<TensorSpec, 'shape'> | undefined)[], axis: number): number[] {
  let next = 0;
  return parts.map((part) => {
    const start = next;
    next += part!.shape[axis]!;
    return start;
  });
}

/** Tensors one after the other along an axis as an operation. */
export const concatOp = defineOp<ConcatAttributes>({
  name: 'concat',
  shape(parts, { axis }) {
    const first = parts[0]!;
    assertMovable('concat', 'tensors', first.dtype);
    let size = 0;
    parts.forEach((part, k) => {
      const expected = withSize(first.shape, axis, part!.shape[axis]!);
      if (!sameShape(part!.shape, expected)) {
        shapeError(
          'concat',
          `tensor ${k}`,
          `[${withSize(first.shape, axis, -1).join(', ').replace('-1', '?')}]`,
          part!.shape,
        );
      }
      if (part!.dtype !== first.dtype) dtypeError('concat', `tensor ${k}`, first.dtype, part!.dtype);
      size += part!.shape[axis]!;
    });
    return [{ shape: withSize(first.shape, axis, size), dtype: first.dtype }];
  },
  forward({ inputs, outputs: [y], attributes: { axis } }) {
    startsOf(inputs, axis).forEach((start, k) => {
      const part = inputs[k]!;
      copyBlock(part, y!, { axis, start, length: part.shape[axis]!, from: 0 });
    });
  },
  saves: { inputs: [], outputs: [] },
  backward({ device, inputs, gradients: [g], attributes: { axis }, needs }) {
    const starts = startsOf(inputs, axis);
    return inputs.map((part, k) => {
      if (!needs[k]) return undefined;
      const d = allocateTensor(device, part!);
      copyBlock(g!, d, { axis, start: 0, length: part!.shape[axis]!, from: starts[k]! });
      return d;
    });
  },
  reference: {
    forward: (parts, { axis }) => [
      concatReference(
        parts.map((part) => part!),
        axis,
      ),
    ],
    backward(parts, { axis }, [g]) {
      const starts = startsOf(parts, axis);
      return parts.map((part, k) => sliceReference(g!, axis, starts[k]!, part!.shape[axis]!));
    },
  },
});

/**
 * Puts tensors one after the other along one dimension.
 *
 * @param tensors at least one; of one dtype (not bfloat16), and of one shape but for the size along `axis`
 * @param axis the dimension; negative ones count from the end
 * @throws ZebraError `shape` or `dtype` for tensors that do not fit, naming the first; `argument` for an empty list
 */
export function concat(tensors: readonly Tensor[], axis: number): Tensor {
  if (tensors.length === 0) throw new ZebraError('argument', 'concat: expected at least one tensor, got none');
  return concatOp.apply(tensors, { axis: resolveAxis('concat', tensors[0]!.shape, axis) })[0]!;
}
