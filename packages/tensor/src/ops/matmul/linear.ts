import type { DType } from '../../core/dtype.js';
import { scope } from '../../core/scope.js';
import { sameShape, shapeError, showShape } from '../../core/shape.js';
import type { Tensor } from '../../core/tensor.js';
import { reshape } from '../reshape/index.js';
import { matmulOp } from './matmul.js';

/** Options of {@link linear}. */
export interface LinearOptions {
  /** dtype of the result, `float32` or `float16`. Default: that of `residual`, else that of `x`. */
  readonly dtype?: DType;
  /** [..., out], float32 or float16: added to the result, in float32 and before it is rounded. Its gradient is the upstream one. */
  readonly residual?: Tensor;
}

/**
 * A linear layer: x · weightᵀ + bias + residual, in one kernel where the adapter's has room for it. It computes in the
 * dtype of `x`: a float32 weight is rounded to float16 for a float16 `x` (its gradient is float32 all the same), and
 * for a float32 `x` a float16 weight serves as it is. Bias and residual are added to the float32 sums.
 *
 * @param x [..., in]; float32 or float16
 * @param weight [out, in], as checkpoints store it
 * @param bias [out]; float32 or float16
 * @returns [..., out], of `options.dtype`
 * @throws ZebraError `shape` or `dtype` for operands that do not fit
 */
export function linear(x: Tensor, weight: Tensor, bias?: Tensor, options: LinearOptions = {}): Tensor {
  const { residual } = options;
  if (weight.shape.length !== 2) shapeError('linear', 'weight', '[out, in]', weight.shape);
  if (x.shape[x.shape.length - 1] !== weight.shape[1]) shapeError('linear', 'x', `[..., ${weight.shape[1]}]`, x.shape);
  const features = weight.shape[0]!;
  if (bias && !sameShape(bias.shape, [features])) shapeError('linear', 'bias', `[${features}]`, bias.shape);
  const shape = [...x.shape.slice(0, -1), features];
  if (residual && !sameShape(residual.shape, shape)) shapeError('linear', 'residual', showShape(shape), residual.shape);
  return scope(() => {
    const single = x.shape.length === 1;
    const rows = single ? reshape(x, [1, -1]) : x;
    const added = single && residual ? reshape(residual, [1, -1]) : residual;
    const product = matmulOp.apply([rows, weight, bias, added], {
      transposeA: false,
      transposeB: true,
      dtype: options.dtype ?? residual?.dtype ?? x.dtype,
      ...(x.dtype === 'float16' && { halves: true }),
    })[0]!;
    return single ? reshape(product, [features]) : product;
  });
}
