import type { Bidiagonal } from './bidiagonalise.js';

const epsilon = 2 ** -52;

/**
 * Diagonalises B in place by the implicitly shifted QR iteration (Golub and Reinsch 1970; Golub and Van Loan,
 * algorithm 8.6.2), rotating the rows of Uᵀ and Vᵀ along. Afterwards `diagonal` holds the singular values, unsorted
 * and with signs. Entries below ε·‖B‖ count as 0, so that the result is exact for a matrix within that distance.
 * Returns false when it has not converged in 60 sweeps a value (not known to happen with finite entries).
 */
export function diagonaliseBidiagonal(bidiagonal: Bidiagonal): boolean {
  const { diagonal: d, superdiagonal: e } = bidiagonal;
  const size = d.length;
  let scale = 0;
  for (let i = 0; i < size; i++) {
    scale = Math.max(scale, Math.abs(d[i]), Math.abs(e[i]));
  }
  const negligible = epsilon * scale;
  let sweeps = 60 * size;
  let last = size - 1;
  while (last > 0) {
    dropSmall(d, e, last, negligible);
    if (e[last - 1] === 0) {
      last--;
      continue;
    }
    if (sweeps-- <= 0) return false;
    let first = last - 1;
    while (first > 0 && e[first - 1] !== 0) first--;
    const zero = lastZero(d, first, last);
    if (zero === last) clearColumn(bidiagonal, first, last);
    else if (zero >= 0) clearRow(bidiagonal, zero, last);
    else sweep(bidiagonal, first, last);
  }
  return true;
}

/** Sets to 0 what is negligible in the block that is still active, [0, last]. */
function dropSmall(d: Float64Array, e: Float64Array, last: number, negligible: number): void {
  for (let i = 0; i < last; i++) {
    const near = epsilon * (Math.abs(d[i]) + Math.abs(d[i + 1]));
    const above = Math.abs(e[i]);
    if (above <= near || above <= negligible) e[i] = 0;
  }
  for (let i = 0; i <= last; i++) if (Math.abs(d[i]) <= negligible) d[i] = 0;
}

function lastZero(d: Float64Array, first: number, last: number): number {
  for (let i = last; i >= first; i--) if (d[i] === 0) return i;
  return -1;
}

/** d[row] = 0: rotations from the left against the rows below move e[row] out to the right. */
function clearRow(bidiagonal: Bidiagonal, row: number, last: number): void {
  const { diagonal: d, superdiagonal: e, leftTransposed } = bidiagonal;
  let bulge = e[row];
  e[row] = 0;
  for (let j = row + 1; j <= last && bulge !== 0; j++) {
    const radius = Math.hypot(d[j], bulge);
    const cosine = d[j] / radius;
    const sine = bulge / radius;
    d[j] = radius;
    bulge = -sine * e[j];
    e[j] = cosine * e[j];
    rotateRows(leftTransposed, d.length, j, row, cosine, sine);
  }
}

/** d[last] = 0: rotations from the right against the columns before it move e[last − 1] out at the top. */
function clearColumn(bidiagonal: Bidiagonal, first: number, last: number): void {
  const { diagonal: d, superdiagonal: e, rightTransposed } = bidiagonal;
  let bulge = e[last - 1];
  e[last - 1] = 0;
  for (let j = last - 1; j >= first && bulge !== 0; j--) {
    const radius = Math.hypot(d[j], bulge);
    const cosine = d[j] / radius;
    const sine = bulge / radius;
    d[j] = radius;
    if (j > first) {
      bulge = -sine * e[j - 1];
      e[j - 1] = cosine * e[j - 1];
    }
    rotateRows(rightTransposed, d.length, j, last, cosine, sine);
  }
}

/**
 * One implicitly shifted QR sweep over the unreduced block [first, last]. No square over- or underflows: the caller has
 * scaled the matrix to about 1, and what is negligible beside that is 0 (Math.hypot would take half of the time).
 */
function sweep(bidiagonal: Bidiagonal, first: number, last: number): void {
  const { diagonal: d, superdiagonal: e, leftTransposed, rightTransposed } = bidiagonal;
  const size = d.length;
  const head = d[first];
  let f = (head + d[last]) * (head - d[last]) + wilkinsonShift(d, e, last);
  let g = head * e[first];
  for (let j = first; j < last; j++) {
    let radius = Math.sqrt(f * f + g * g);
    let cosine = radius === 0 ? 1 : f / radius;
    let sine = radius === 0 ? 0 : g / radius;
    if (j > first) e[j - 1] = radius;
    const here = d[j];
    const next = d[j + 1];
    const above = e[j];
    f = cosine * here + sine * above;
    const turned = cosine * above - sine * here;
    g = sine * next;
    const nextTurned = cosine * next;
    rotateRows(rightTransposed, size, j, j + 1, cosine, sine);
    radius = Math.sqrt(f * f + g * g);
    cosine = radius === 0 ? 1 : f / radius;
    sine = radius === 0 ? 0 : g / radius;
    d[j] = radius;
    f = cosine * turned + sine * nextTurned;
    d[j + 1] = cosine * nextTurned - sine * turned;
    if (j + 1 < last) {
      g = sine * e[j + 1];
      e[j + 1] = cosine * e[j + 1];
    }
    rotateRows(leftTransposed, size, j, j + 1, cosine, sine);
  }
  e[last - 1] = f;
}

/**
 * d[last]² − μ, with μ the eigenvalue of the trailing 2 × 2 block of BᵀB that is nearer its last entry, in the form
 * that loses no digits when μ is near d[last]².
 */
function wilkinsonShift(d: Float64Array, e: Float64Array, last: number): number {
  const end = d[last];
  const before = d[last - 1];
  const above = e[last - 1];
  const further = last > 1 ? e[last - 2] : 0;
  // Trailing block of BᵀB: [before² + further², before·above; ·, end² + above²]; its difference from end².
  const a = (before + end) * (before - end) + further * further;
  const c = above * above;
  const off = before * above;
  const half = (a - c) / 2;
  const root = Math.hypot(half, off);
  const denominator = half >= 0 ? half + root : half - root;
  // Eigenvalue nearer c of [[a, off], [off, c]] is c − off²/(half ± root).
  const nearer = denominator === 0 ? c : c - (off * off) / denominator;
  return -nearer;
}

/** Row i ← c·row i + s·row j; row j ← c·row j − s·row i. */
function rotateRows(
  matrix: Float64Array | undefined,
  size: number,
  i: number,
  j: number,
  cosine: number,
  sine: number,
): void {
  if (matrix === undefined || sine === 0) return;
  const rowI = i * size;
  const rowJ = j * size;
  for (let k = 0; k < size; k++) {
    const x = matrix[rowI + k];
    const y = matrix[rowJ + k];
    matrix[rowI + k] = cosine * x + sine * y;
    matrix[rowJ + k] = cosine * y - sine * x;
  }
}
