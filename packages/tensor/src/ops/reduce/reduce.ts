import { defineOp } from '../../core/define-op.js';
import { isComputable } from '../../core/dtype.js';
import { hostTensor } from '../../core/host.js';
import { scope } from '../../core/scope.js';
import { dtypeError, elementCount, type Shape, shapeError, type TensorSpec } from '../../core/shape.js';
import type { Tensor } from '../../core/tensor.js';
import { scale } from '../pointwise/unary.js';
import { expandInto } from './expand.js';
import { reduceInto } from './reduce-kernel.js';
import { sumToReference } from './sum-to.js';

/** Options of {@link sum} and {@link mean}. */
export interface ReduceOptions {
  /** Dimensions to reduce, a run of neighbours; negative ones count from the end. Default: all of them. */
  readonly axes?: readonly number[];
  /** Keep reduced dimensions with size 1. Default false. */
  readonly keepDimensions?: boolean;
}

interface SumAttributes {
  readonly start: number;
  readonly end: number;
  readonly keepDimensions: boolean;
}

function outputShape(shape: Shape, { start, end, keepDimensions }: SumAttributes): Shape {
  const middle = keepDimensions ? new Array<number>(end - start).fill(1) : [];
  const reduced = [...shape.slice(0, start), ...middle, ...shape.slice(end)];
  return reduced.length > 0 ? reduced : [1];
}

function keptShape(shape: Shape, { start, end }: SumAttributes): Shape {
  return shape.map((size, d) => (d >= start && d < end ? 1 : size));
}

/** The sum over neighbouring dimensions as an operation. */
export const sumOp = defineOp<SumAttributes>({
  name: 'sum',
  shape([x], attributes): TensorSpec[] {
    if (!isComputable(x!.dtype)) dtypeError('sum', 'x', 'float32 or float16', x!.dtype);
    return [{ shape: outputShape(x!.shape, attributes), dtype: x!.dtype }];
  },
  forward({ inputs: [x], outputs: [y], attributes: { start, end } }) {
    const { shape } = x!;
    const sizes = [shape.slice(0, start), shape.slice(start, end), shape.slice(end)].map(elementCount);
    reduceInto(x!, y!, sizes[0]!, sizes[1]!, sizes[2]!, 'sum');
  },
  saves: { inputs: [], outputs: [] },
  backward({ inputs: [x], gradients: [g], attributes }) {
    return [expandInto(g!, keptShape(x!.shape, attributes), x!)];
  },
  reference: {
    forward: ([x], attributes) => {
      const kept = sumToReference(x!, keptShape(x!.shape, attributes));
      return [{ shape: outputShape(x!.shape, attributes), data: kept.data }];
    },
    backward([x], { start, end }, [g]) {
      const inner = elementCount(x!.shape.slice(end));
      const n = elementCount(x!.shape.slice(start, end));
      return [
        hostTensor(
          x!.shape,
          x!.data.map((_, i) => g!.data[Math.floor(i / (inner * n)) * inner + (i % inner)]!),
        ),
      ];
    },
  },
});

function attributesOf(name: string, x: Tensor, options: ReduceOptions): SumAttributes {
  const rank = x.shape.length;
  const axes = (options.axes ?? x.shape.map((_, d) => d))
    .map((axis) => (axis < 0 ? axis + rank : axis))
    .sort((a, b) => a - b);
  const start = axes[0] ?? 0;
  const neighbours = axes.length > 0 && axes.every((axis, k) => axis === start + k && axis < rank && axis >= 0);
  if (!neighbours) shapeError(name, 'axes', `distinct neighbouring dimensions of ${rank}`, `[${axes.join(', ')}]`);
  return { start, end: start + axes.length, keepDimensions: options.keepDimensions ?? false };
}

/** Sum over dimensions (all by default, giving shape [1]). Summed in float32. */
export function sum(x: Tensor, options: ReduceOptions = {}): Tensor {
  return sumOp.apply([x], attributesOf('sum', x, options))[0]!;
}

/** Mean over dimensions (all by default, giving shape [1]). */
export function mean(x: Tensor, options: ReduceOptions = {}): Tensor {
  const attributes = attributesOf('mean', x, options);
  const n = elementCount(x.shape.slice(attributes.start, attributes.end));
  return scope(() => scale(sumOp.apply([x], attributes)[0]!, 1 / n));
}
