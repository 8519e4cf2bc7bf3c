import { add, concat, matmul, scale, scope, subtract, type Tensor, zeros } from '@zebra/tensor';
import { energyKept, energyRank, smallestError } from '../energy-rank.js';
import type { TruncationErrors } from '../mla-from-attention.js';
import type { RankChoice } from '../mla-options.js';
import { deviceSingularValues, frobeniusNormOf } from './bidiagonal.js';
import { polarFactor } from './polar.js';
import { randomMatrix, shiftDiagonal } from './small-kernels.js';

/** The leading left singular subspace of a matrix, on its device. */
export interface LeadingSubspace {
  /** [m, rank] float32, orthonormal columns in no particular order. The caller owns it. */
  readonly basis: Tensor;
  readonly rank: number;
  /** The share Σ_{i≤rank} s² / Σ s² that the rank keeps. */
  readonly energy: number;
  /** All min(m, n) singular values, largest first, each off by about 1e-6 of the largest. */
  readonly singularValues: Float64Array;
  /** ‖W − Q·Qᵀ·W‖_F as measured on the device, and the smallest that any basis of this rank has, from the values. */
  readonly errors: TruncationErrors;
}

/** Options of {@link leadingSubspace}. */
export interface LeadingSubspaceOptions {
  /** All singular values of the matrix, where they are known already. */
  readonly singularValues?: Float64Array;
}

/**
 * Singular values are taken in groups, each within this factor of its largest. Squared (in the Gram matrix) that is
 * 256, so a group's float32 Gram matrix still separates values that differ by 1e-4 of themselves.
 */
const GROUP_RATIO = 16;

/** Singular values below this share of the largest are rounding noise in float32: any directions do for them. */
const NOISE = 4e-6;

/** Eigenvalues this near to the cut, relative to the Gram matrix, may end up on either side: they hardly differ. */
const SIGN_GAP = 1e-5;

/** The smallest singular value of a random square of a few thousand rows, relative to its largest, is seldom below. */
const RANDOM_CONDITION = 1e-6;

/** Columns sampled beyond the values of a group: more than there are values that lie at a cut. */
const OVERSAMPLING = 16;

/**
 * An orthonormal basis of the leading left singular subspace, made of float32 matrix products on the device, whatever
 * the spectrum: nothing depends on how fast the singular values fall.
 *
 * 1. All singular values ({@link deviceSingularValues}), which give the rank for an energy and where to cut.
 * 2. With b between the squares of the two values at the cut, the sign function of W·Wᵀ − b·I ({@link polarFactor}) is
 *    +1 on the subspace and −1 on its complement; half of I + sign is the projector.
 * 3. The projector times a random matrix of a few more columns than values, made orthonormal by its polar factor, less
 *    the lowest directions; then once more, which removes what rounding has amplified along with the weakest random
 *    direction.
 *
 * Squaring W loses what is small beside the largest value. So values are taken in groups of at most a factor of 16, and
 * each group is found in W less its part in the groups before. Where W has fewer columns than rows, projector and
 * groups are found among the right singular vectors and multiplied by W.
 *
 * Errors: with float32 rounding u ≈ 6e-8, the reconstruction error is the best possible but for directions whose
 * singular values differ by 1e-3 of themselves, and for up to 3e-6·‖W‖. Peak memory beside W: about seven matrices
 * of its size.
 *
 * @param w [m, n] float32
 * @param choice a rank from 1 to min(m, n), or the share of energy that chooses one
 * @throws InitError `data` for values that are not finite
 */
export async function leadingSubspace(
  w: Tensor,
  choice: RankChoice,
  options: LeadingSubspaceOptions = {},
): Promise<LeadingSubspace> {
  const singularValues = options.singularValues ?? (await deviceSingularValues(w));
  const rank = typeof choice === 'number' ? choice : energyRank(singularValues, choice.energy);
  const basis = scope(() => leadingBasis(w, singularValues, rank));
  const residual = scope(() => subtract(w, projected(basis, w)));
  const reached = await frobeniusNormOf(residual);
  residual.dispose();
  const smallest = smallestError(singularValues, rank);
  return {
    basis,
    rank,
    energy: energyKept(singularValues, rank),
    singularValues,
    errors: { reached, smallest },
  };
}

/** Q·Qᵀ·x. */
function projected(q: Tensor, x: Tensor): Tensor {
  return scope(() => matmul(q, matmul(q, x, { transposeA: true })));
}

function leadingBasis(w: Tensor, values: Float64Array, rank: number): Tensor {
  const { device } = w;
  const rows = w.shape[0]!;
  if (rank === rows) {
    const identity = zeros(device, [rows, rows]);
    shiftDiagonal(identity, 1, 1);
    return identity;
  }
  const meaningful = values.findIndex((value) => !(value > NOISE * values[0]!));
  const known = Math.min(rank, meaningful < 0 ? values.length : meaningful);
  let basis: Tensor | undefined;
  let rest = known > 0 ? scale(w, 1 / values[0]!) : w;
  const whole = rest;
  for (let start = 0; start < known; ) {
    const end = groupEnd(values, start, known);
    const found = scope(() => {
      const group = groupBasis(rest, values, start, end);
      return basis ? polarFactor(outside(basis, group), 0.5) : group;
    });
    const next = basis ? concat([basis, found], 1) : found;
    if (basis) for (const old of [basis, found]) old.dispose();
    basis = next;
    if (rest !== whole) rest.dispose();
    if (end < known) {
      const deflated = basis;
      rest = scope(() => subtract(whole, projected(deflated, whole)));
    }
    start = end;
  }
  if (known > 0) whole.dispose();
  if (known < rank) {
    const missing = rank - known;
    const filling = scope(() => {
      const random = randomMatrix(device, [rows, missing], 1 / randomNorm(rows, missing), 3);
      return polarFactor(basis ? outside(basis, random) : random, RANDOM_CONDITION);
    });
    basis = basis ? concat([basis, filling], 1) : filling;
  }
  // Two groups are orthogonal to each other only to rounding times the factor between them.
  return polarFactor(basis!, 0.9);
}

/** (I − Q·Qᵀ)·x, twice, since once leaves rounding errors of the size of x. */
function outside(q: Tensor, x: Tensor): Tensor {
  return scope(() => {
    const once = subtract(x, projected(q, x));
    return subtract(once, projected(q, once));
  });
}

/**
 * The end of the group of values that starts at `start`. Where more values than are sampled beyond a group cannot be told
 * from the one at its end, as on a plateau, the group ends before them, and they are one of their own.
 */
function groupEnd(values: Float64Array, start: number, known: number): number {
  let end = start + 1;
  while (end < known && values[end]! * GROUP_RATIO >= values[start]!) end++;
  if (end === values.length) return end;
  const near = 2 * SIGN_GAP * values[Math.max(0, start - 1)]! ** 2;
  const alike = (one: number, other: number) => values[one]! ** 2 - values[other]! ** 2 <= near;
  let first = end;
  while (first > start && alike(first - 1, end)) first--;
  let last = end;
  while (last < values.length && alike(end, last)) last++;
  return first > start && first < end && last - first > OVERSAMPLING / 2 ? first : end;
}

/**
 * Orthonormal columns for singular values [start, end) of the matrix whose values before `start` are taken out of
 * `rest` (scaled so that values[0] is 1).
 */
function groupBasis(rest: Tensor, values: Float64Array, start: number, end: number): Tensor {
  const [rows, columns] = rest.shape as [number, number];
  const count = end - start;
  const relative = (index: number) => (index < values.length ? values[index]! / values[0]! : 0);
  // Directions at the cut before may have been mixed, so that a trifle of the value before is left.
  const top = start === 0 ? 1 : relative(start - 1);
  const last = relative(end - 1);
  // Between the values on either side of the cut, but not so far below as to reach noise.
  const cut = last * Math.max(relative(end), last / GROUP_RATIO);
  const left = rows <= columns;
  const side = left ? rows : columns;
  const reach = 1.02 * Math.max(top * top - cut, cut);
  const shifted = scope(() => {
    const gram = matmul(rest, rest, left ? { transposeB: true } : { transposeA: true });
    shiftDiagonal(gram, 1 / reach, -cut / reach);
    return gram;
  });
  const sign = polarFactor(shifted, SIGN_GAP);
  const project = (x: Tensor, factor: number) => scope(() => scale(add(x, matmul(sign, x)), factor / 2));
  const sampled = Math.min(side, count + OVERSAMPLING);
  const rough = scope(() => {
    const random = randomMatrix(rest.device, [side, sampled], 1, 1 + start);
    return polarFactor(project(random, 1 / randomNorm(sampled, sampled)), RANDOM_CONDITION);
  });
  const chosen = sampled > count ? withoutLowest(rough, shifted, { shift: cut / reach, count }) : rough;
  const basis = scope(() => polarFactor(project(chosen, 1 / 1.01), 0.02));
  for (const done of new Set([shifted, sign, rough, chosen])) done.dispose();
  if (left) return basis;
  // The values of the group are within the ratio of each other, and so are those of the product.
  return polarFactor(scale(matmul(rest, basis), 1 / (1.02 * top)), last / (1.1 * top));
}

/**
 * The `count` directions of the columns of Q that matter most to a symmetric A, given A − shift·I, whose cut lies where
 * A passes `shift`.
 *
 * Values next to a cut cannot be told apart from it in float32, so that a projector has a few dimensions more than
 * values were counted. A basis of as many random columns as were counted then misses a random direction of the whole
 * group, large values included. Sampling more columns and giving up the lowest directions misses only what lies at the
 * cut: here the basis that is made of too few columns is that of the lowest ones.
 */
function withoutLowest(
  q: Tensor,
  shifted: Tensor,
  { shift, count }: { readonly shift: number; readonly count: number },
): Tensor {
  return scope(() => {
    const sampled = q.shape[1]!;
    const lowest = sampled - count;
    // QᵀAQ − shift·I; columns of Q that are shorter than 1 stand for nothing and are to be among the lowest.
    const gram = matmul(q, q, { transposeA: true });
    shiftDiagonal(gram, shift, -shift);
    const sign = polarFactor(add(matmul(q, matmul(shifted, q), { transposeA: true }), gram), SIGN_GAP);
    const random = (columns: number, seed: number) => randomMatrix(q.device, [sampled, columns], 1, seed);
    const below = (x: Tensor) => scale(subtract(x, matmul(sign, x)), 0.5 / randomNorm(lowest, sampled));
    const low = polarFactor(below(random(lowest, 2)), RANDOM_CONDITION);
    const rough = polarFactor(scale(outside(low, random(count, 5)), 1 / randomNorm(count, sampled)), RANDOM_CONDITION);
    return matmul(q, polarFactor(outside(low, rough), 0.5));
  });
}

/** A bound of the spectral norm of an [m, n] matrix of independent entries of variance 1, wrong once in 10⁷. */
function randomNorm(rows: number, columns: number): number {
  return Math.sqrt(rows) + Math.sqrt(columns) + 6;
}
