import { scope } from '../../core/scope.js';
import { shapeError } from '../../core/shape.js';
import type { Tensor } from '../../core/tensor.js';
import { add } from '../pointwise/index.js';
import { reshape } from '../reshape/index.js';
import { type MatmulOptions, matmul } from './matmul.js';

/**
 * A linear layer: x · weightᵀ + bias.
 *
 * @param x [..., in]; float32 or float16
 * @param weight [out, in], as checkpoints store it
 * @param bias [out]
 * @returns [..., out]; float32 if any operand is, else float16, or `options.dtype` before the bias is added
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
    const product = matmul(rows, weight, { transposeB: true, ...options });
    const shaped = rows === x ? product : reshape(product, [features]);
    return bias ? add(shaped, bias) : shaped;
  });
}
