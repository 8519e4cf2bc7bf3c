import { matmul, scope, type Tensor } from '@zebra/tensor';
import { shiftDiagonal } from './small-kernels.js';

/** p(x) = linear·x + cubic·x³. */
export interface OddCubic {
  readonly linear: number;
  readonly cubic: number;
}

/**
 * Below this a bound is not trusted when a cubic is chosen: the best cubic for [l, 1] takes 1 to where it takes l, so
 * with a tiny l a value that rounding has put just above 1 would come out negative.
 */
const SMALLEST_DESIGN = 0.05;

/** From here on two plain Newton–Schulz steps square the distance to 1 twice. */
const NEARLY_ONE = 0.999;

/**
 * Odd cubics whose composition takes [smallest, 1] to 1 (the sign function): each is the best uniform approximation of 1
 * on the interval that is left, in closed form. For p = b·((1+l+l²)·x − x³) the ends of [l, 1] agree, and b is such that
 * p exceeds 1 in its maximum by as much as it falls short at the ends; p is then divided by its maximum, so that 1 stays
 * the upper bound. Near 0 each is worth a factor of 2.5 for two products, against 1.5 for Newton–Schulz.
 * (The idea of composing best approximations: Nakatsukasa and Freund 2016; Amsel et al., arXiv 2505.16932.)
 */
export function signCubics(smallest: number): OddCubic[] {
  const steps: OddCubic[] = [];
  let lower = smallest;
  while (lower < NEARLY_ONE) {
    const l = Math.max(lower, SMALLEST_DESIGN);
    const span = 1 + l + l * l;
    const size = 2 / ((2 / 3) * span * Math.sqrt(span / 3) + l + l * l);
    const end = size * (l + l * l);
    const top = 2 - end;
    const linear = (size * span) / top;
    const cubic = -size / top;
    steps.push({ linear, cubic });
    lower = Math.min(linear * lower + cubic * lower ** 3, end / top);
  }
  steps.push({ linear: 1.5, cubic: -0.5 }, { linear: 1.5, cubic: -0.5 });
  return steps;
}

/**
 * The orthogonal polar factor U·Vᵀ of X = U·S·Vᵀ by products alone: X ← X·(linear·I + cubic·XᵀX). Of a symmetric X it is
 * the sign function. Float32; the result is orthonormal to a few 1e-7 (in the spectral norm), where X's singular values
 * are at least `smallest`; those below come out between 0 and 1, their singular vectors unchanged.
 *
 * @param x [p, q] float32 with p ≥ q, or symmetric; its spectral norm at most 1 (a part in a thousand more does no harm)
 * @returns [p, q]; the caller owns it
 */
export function polarFactor(x: Tensor, smallest: number): Tensor {
  let current = x;
  for (const { linear, cubic } of signCubics(smallest)) {
    const next = scope(() => {
      const gram = matmul(current, current, { transposeA: true });
      shiftDiagonal(gram, cubic, linear);
      return matmul(current, gram);
    });
    if (current !== x) current.dispose();
    current = next;
  }
  return current;
}
