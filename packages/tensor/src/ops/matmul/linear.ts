import { scope } from '../../core/scope.js';
import { shapeError } from '../../core/shape.js';
import type { Tensor } from '../../core/tensor.js';
import { cast } from '../cast/index.js';
import { add } from '../pointwise/index.js';
import { reshape } from '../reshape/index.js';
import { type MatmulOptions, matmul } from './matmul.js';

/**
 * A linear layer: x · weightᵀ + bias. It computes in the dtype of `x`: a float32 weight is rounded to float16 for a
 * float16 `x` (its gradient is float32 all the same), and for a float32 `x` a float16 weight serves as it is.
 *
 * @param x [..., in]; float32 or float16
 * @param weight [out, in], as checkpoints store it
 * @param bias [out]
 * @returns [..., out], of `options.dtype`, by default that of `x`
 * @throws ZebraError `shape` or `dtype` for operands that do not fit
 */
export function linear(x: Tensor, weight: Tensor, bias?: Tensor, options: Pick<MatmulOptions, 'dtype'> = {}): Tensor {
  if (weight.shape.length !== 2) shapeError('linear', 'weight', '[out, in]', weight.shape);
  if (x.shape[x.shape.length - 1] !== weight.shape[1]) shapeError('linear', 'x', `[..., ${weight.shape[1]}]`, x.shape);
  const features = weight.shape[0]!;
  if (bias && (bias.shape.length !== 1 || bias.shape[0] !== features)) {
    shapeError('linear', 'bias', `[${features}]`, bias.shape);
  }
  return scope(() => {
    const rows = x.shape.length === 1 ? reshape(x, [1, -1]) : x;
    const product = matmul(rows, weight, { transposeB: true, halves: x.dtype === 'float16', ...options });
    const shaped = rows === x ? product : reshape(product, [features]);
    return bias ? add(shaped, cast(bias, shaped.dtype)) : shaped;
  });
}
