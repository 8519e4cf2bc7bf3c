import { allocateTensor, defineOp } from '../../core/define-op.js';
import type { DType } from '../../core/dtype.js';
import { scope } from '../../core/scope.js';
import { dtypeError, type Shape, sameShape, shapeError, showShape, type TensorSpec } from '../../core/shape.js';
import type { Tensor } from '../../core/tensor.js';
import { ZebraError } from '../../errors.js';
import { cast } from '../cast/index.js';
import { reduceInto } from '../reduce/reduce-kernel.js';
import { sumToReference } from '../reduce/sum-to.js';
import { matmulGeometry } from './geometry.js';
import { matmulGradientReference, matmulReference } from './reference.js';
import { runMatmul } from './run.js';

/** Options of {@link matmul}. */
export interface MatmulOptions {
  /** `a` is stored as [..., K, M]. Default false. */
  readonly transposeA?: boolean;
  /** `b` is stored as [..., N, K], as the weights of linear layers are. Default false. */
  readonly transposeB?: boolean;
  /** dtype of the result, `float32` or `float16`. Default: float32 if either operand is, else float16. */
  readonly dtype?: DType;
  /**
   * Round a float32 operand to float16 before multiplying, in the gradients' products too; the result is float16 unless
   * `dtype` says otherwise, and gradients have their operands' dtypes. What mixed precision does with float32 master
   * weights. Default false.
   */
  readonly halves?: boolean;
}

/** Options of {@link matmulInto}. */
export interface MatmulIntoOptions {
  /** `a` is stored as [..., K, M]. Default false. */
  readonly transposeA?: boolean;
  /** `b` is stored as [..., N, K]. Default false. */
  readonly transposeB?: boolean;
  /** Add to what `out` holds instead of replacing it. Default false. */
  readonly accumulate?: boolean;
  /** Factor of the product (not of what `out` held). Default 1. */
  readonly alpha?: number;
}

/** Attributes of the operation `matmul`. */
export interface MatmulAttributes {
  readonly transposeA: boolean;
  readonly transposeB: boolean;
  readonly dtype?: DType;
  /** Round float32 operands to float16 before they are multiplied. Gradients keep the operands' dtypes. */
  readonly halves?: boolean;
}

/** The (batched) matrix product a · b, with optional third and fourth inputs: + bias [N] + residual [..., M, N]. */
export const matmulOp = defineOp<MatmulAttributes>({
  name: 'matmul',
  shape([a, b, bias, residual], { transposeA, transposeB, dtype, halves }) {
    assertComputable('matmul', 'a', a!.dtype);
    assertComputable('matmul', 'b', b!.dtype);
    const { n, shape } = matmulGeometry('matmul', a!.shape, b!.shape, transposeA, transposeB);
    if (bias) assertAdded('bias', bias, [n]);
    if (residual) assertAdded('residual', residual, shape);
    const made = dtype ?? (halves || (a!.dtype === 'float16' && b!.dtype === 'float16') ? 'float16' : 'float32');
    assertComputable('matmul', 'dtype', made);
    return [{ shape, dtype: made }];
  },
  forward({ inputs: [a, b, bias, residual], outputs: [c], attributes }) {
    const rounded = (operand: Tensor) => (attributes.halves ? halvesOf(operand) : operand);
    runMatmul('matmul', c!, rounded(a!), rounded(b!), { ...attributes, bias, residual });
  },
  // The gradient of an operand is made from the other one.
  saves: ({ needs }) => ({ inputs: [...(needs[1] ? [0] : []), ...(needs[0] ? [1] : [])], outputs: [] }),
  backward({ device, inputs: [a, b, bias, residual], gradients: [g], attributes, needs }) {
    const { transposeA, transposeB, halves } = attributes;
    // Products of halves stay products of halves: on matrix units they are an order of magnitude faster.
    const inHalves = halves || (a!.dtype === 'float16' && b!.dtype === 'float16');
    const rounded = (operand: Tensor) => (inHalves ? halvesOf(operand) : operand);
    const upstream = needs[0] || needs[1] ? rounded(g!) : g!;
    const gradientOf = (operand: Tensor, left: Tensor, right: Tensor, options: MatmulIntoOptions): Tensor => {
      const gradient = allocateTensor(device, operand);
      scope(() => runMatmul('matmul', gradient, rounded(left), rounded(right), options));
      return gradient;
    };
    // C = A·B gives dA = dC·Bᵀ and dB = Aᵀ·dC; an operand stored transposed gets the transposed product.
    const a_ = () =>
      transposeA
        ? gradientOf(a!, b!, upstream, { transposeA: transposeB, transposeB: true })
        : gradientOf(a!, upstream, b!, { transposeB: !transposeB });
    const b_ = () =>
      transposeB
        ? gradientOf(b!, upstream, a!, { transposeA: true, transposeB: transposeA })
        : gradientOf(b!, a!, upstream, { transposeA: !transposeA });
    return [
      needs[0] ? a_() : undefined,
      needs[1] ? b_() : undefined,
      needs[2] ? biasGradient(g!, bias!) : undefined,
      needs[3] ? cast(g!, residual!.dtype) : undefined,
    ];
  },
  reference: {
    forward: ([a, b, bias, residual], attributes) => [matmulReference(a!, b!, attributes, bias, residual)],
    backward: ([a, b, bias, residual], attributes, [g]) => [
      ...matmulGradientReference(a!, b!, attributes, g!),
      bias && sumToReference(g!, bias.shape),
      residual && g!,
    ],
  },
});

/** The operand itself, or a copy of it in float16 that belongs to the open scope. */
function halvesOf(operand: Tensor): Tensor {
  return operand.dtype === 'float16' ? operand : cast(operand, 'float16');
}

/** The sum of the upstream gradient's rows, in float32 until it is rounded to the bias's dtype. */
function biasGradient(g: Tensor, bias: Tensor): Tensor {
  const gradient = allocateTensor(g.device, bias);
  reduceInto(g, gradient, 1, g.size / bias.size, bias.size, 'sum');
  return gradient;
}

function assertAdded(argument: string, { shape, dtype }: TensorSpec, expected: Shape): void {
  assertComputable('matmul', argument, dtype);
  if (!sameShape(shape, expected)) shapeError('matmul', argument, showShape(expected), shape);
}

function assertComputable(operation: string, argument: string, dtype: DType): void {
  if (dtype !== 'float32' && dtype !== 'float16') dtypeError(operation, argument, 'float32 or float16', dtype);
}

/**
 * Matrix product a · b, summed in float32.
 *
 * @param a [..., M, K], or [..., K, M] with `transposeA`; float32 or float16
 * @param b [..., K, N], or [..., N, K] with `transposeB`. The leading dimensions of the two are equal, or one operand
 *   is a single matrix that serves the whole batch of the other
 * @returns [..., M, N]
 * @throws ZebraError `shape` for sizes that do not fit, `dtype` for operands that are not float32 or float16
 */
export function matmul(a: Tensor, b: Tensor, options: MatmulOptions = {}): Tensor {
  const { transposeA = false, transposeB = false, dtype, halves = false } = options;
  return matmulOp.apply([a, b], { transposeA, transposeB, ...(dtype && { dtype }), ...(halves && { halves }) })[0]!;
}

/**
 * Writes alpha · a · b into `out`, or adds it to `out`; nothing is recorded for gradients.
 *
 * @param out [..., M, N] float32 or float16, of the batch of the operands; or a single matrix, which receives the sum
 *   over the batch. May be a view of some rows of a larger tensor; must not share memory with `a` or `b`
 * @param a [..., M, K], or [..., K, M] with `transposeA`
 * @param b [..., K, N], or [..., N, K] with `transposeB`
 * @throws ZebraError `shape`, `dtype`, or `argument` for an output that shares memory with an operand
 */
export function matmulInto(out: Tensor, a: Tensor, b: Tensor, options: MatmulIntoOptions = {}): void {
  const tensors: Record<string, TensorSpec> = { out, a, b };
  for (const [name, { dtype }] of Object.entries(tensors)) assertComputable('matmulInto', name, dtype);
  const { transposeA = false, transposeB = false } = options;
  const { m, n, shape } = matmulGeometry('matmulInto', a.shape, b.shape, transposeA, transposeB);
  const single = out.size === m * n && sameShape(out.shape.slice(-2), [m, n]);
  if (!single && !sameShape(out.shape, shape)) shapeError('matmulInto', 'out', `[${shape.join(', ')}]`, out.shape);
  if (out.storage === a.storage || out.storage === b.storage) {
    throw new ZebraError('argument', 'matmulInto: out shares memory with an operand. Write into a tensor of its own.');
  }
  scope(() => runMatmul('matmulInto', out, a, b, options));
}
