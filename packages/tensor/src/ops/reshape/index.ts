import { defineOp } from '../../core/define-op.js';
import { assertShape, elementCount, type Shape, shapeError, showShape } from '../../core/shape.js';
import type { Tensor } from '../../core/tensor.js';
import { reshapeReference } from './reference.js';

/** Attributes of `reshape`: the new shape, with no size left open. */
export interface ReshapeAttributes {
  readonly shape: Shape;
}

/** Another shape over the same memory, as an operation: a view forward, a view back. */
export const reshapeOp = defineOp<ReshapeAttributes>({
  name: 'reshape',
  shape([x], { shape }) {
    assertShape('reshape', shape);
    if (elementCount(shape) !== elementCount(x!.shape)) {
      shapeError('reshape', 'shape', `of as many elements as ${showShape(x!.shape)}`, shape);
    }
    return [{ shape: [...shape], dtype: x!.dtype }];
  },
  saves: { inputs: [], outputs: [] },
  backward: ({ inputs: [x], gradients: [g] }) => [g!.view({ shape: x!.shape, dtype: g!.dtype })],
  reference: {
    forward: ([x], { shape }) => [reshapeReference(x!, shape)],
    backward: ([x], _attributes, [g]) => [reshapeReference(g!, x!.shape)],
  },
});

/**
 * The same elements, in the same order, under another shape. Shares memory with `x`: nothing is copied, and a later
 * write to one is seen by the other.
 *
 * @param x any shape and dtype
 * @param shape the new sizes; one of them may be −1 and is then found from the others
 * @returns a view, to be disposed of on its own
 * @throws ZebraError `shape` when the number of elements differs
 */
export function reshape(x: Tensor, shape: Shape): Tensor {
  return reshapeOp.apply([x], { shape: resolveShape(x.shape, shape) })[0]!;
}

function resolveShape(from: Shape, shape: Shape): Shape {
  const open = shape.indexOf(-1);
  if (open < 0) return shape;
  const rest = elementCount(shape.filter((_, d) => d !== open));
  const size = elementCount(from) / rest;
  if (shape.lastIndexOf(-1) !== open || !Number.isSafeInteger(size) || size < 1) {
    shapeError('reshape', 'shape', `of as many elements as ${showShape(from)}, with at most one −1`, shape);
  }
  return shape.map((given, d) => (d === open ? size : given));
}
