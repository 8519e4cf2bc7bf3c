import { allocateTensor, defineOp } from '../../core/define-op.js';
import { type Shape, shapeError } from '../../core/shape.js';
import type { Tensor } from '../../core/tensor.js';
import { assertMovable } from '../slice/axis.js';
import { MAX_DIMENSIONS, permuteKernel } from './permute.wgsl.js';
import { permuteReference } from './reference.js';

/** Attributes of `permute`: which dimension of the input each dimension of the output is. */
export interface PermuteAttributes {
  readonly order: readonly number[];
}

/** Reordering of dimensions as an operation. */
export const permuteOp = defineOp<PermuteAttributes>({
  name: 'permute',
  shape([x], { order }) {
    assertMovable('permute', 'x', x!.dtype);
    const sorted = [...order].sort((a, b) => a - b);
    if (sorted.length !== x!.shape.length || sorted.some((d, k) => d !== k)) {
      shapeError('permute', 'order', `each dimension of ${x!.shape.length} once`, order);
    }
    return [{ shape: order.map((d) => x!.shape[d]!), dtype: x!.dtype }];
  },
  forward: ({ inputs: [x], outputs: [y], attributes: { order } }) => permuteInto(x!, y!, order),
  saves: { inputs: [], outputs: [] },
  backward({ device, inputs: [x], gradients: [g], attributes: { order } }) {
    const d = allocateTensor(device, x!);
    permuteInto(g!, d, inverse(order));
    return [d];
  },
  reference: {
    forward: ([x], { order }) => [permuteReference(x!, order)],
    backward: (_inputs, { order }, [g]) => [permuteReference(g!, inverse(order))],
  },
});

function inverse(order: readonly number[]): number[] {
  return order.map((_, d) => order.indexOf(d));
}

function permuteInto(x: Tensor, y: Tensor, order: readonly number[]): void {
  const { sizes, strides } = mergedDimensions(x.shape, order);
  if (sizes.length > MAX_DIMENSIONS)
    shapeError('permute', 'x', `of at most ${MAX_DIMENSIONS} separate dimensions`, x.shape);
  const last = sizes.length - 1;
  const vector = strides[last] === 1 && sizes[last]! % 4 === 0 && strides.slice(0, last).every((s) => s % 4 === 0);
  const width = vector ? 4 : 1;
  const params: Record<string, number> = { count: y.size / width };
  for (let d = 0; d < MAX_DIMENSIONS; d++) {
    params[`n${d}`] = (sizes[d] ?? 1) / (d === last ? width : 1);
    params[`s${d}`] = (strides[d] ?? 0) / (d === last ? 1 : width);
  }
  y.device.dispatch(permuteKernel, {
    bindings: { x: x.range(), y: y.range() },
    params,
    constants: { rank: sizes.length, vector },
    groups: Math.ceil(y.size / width / y.device.workgroupOf(permuteKernel)),
  });
}

/** Sizes of the output's dimensions and their strides in `x`; neighbours that stay together count as one. */
function mergedDimensions(shape: Shape, order: readonly number[]): { sizes: number[]; strides: number[] } {
  const strideOf = shape.map((_, d) => shape.slice(d + 1).reduce((product, size) => product * size, 1));
  const sizes: number[] = [];
  const strides: number[] = [];
  for (const d of order) {
    const size = shape[d]!;
    const stride = strideOf[d]!;
    const last = sizes.length - 1;
    if (size === 1) continue;
    if (last >= 0 && strides[last] === size * stride) {
      sizes[last]! *= size;
      strides[last] = stride;
    } else {
      sizes.push(size);
      strides.push(stride);
    }
  }
  return sizes.length > 0 ? { sizes, strides } : { sizes: [1], strides: [1] };
}

/**
 * Reorders the dimensions of a tensor, copying it: dimension d of the result is dimension `order[d]` of `x`.
 *
 * @param x at most 5 dimensions (more where neighbours stay together); any dtype but bfloat16
 * @param order each dimension once; `[0, 2, 1]` swaps the last two of three
 * @throws ZebraError `shape` for another order or too many dimensions; `dtype` for bfloat16
 */
export function permute(x: Tensor, order: readonly number[]): Tensor {
  return permuteOp.apply([x], { order: [...order] })[0]!;
}
