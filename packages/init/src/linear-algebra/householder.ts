/**
 * Makes of the vector x in `vector[start … end)` a Householder reflector H = I − τ·v·vᵀ with H·x = β·e₁ and v₁ = 1,
 * v overwriting x. Returns [τ, β]. τ = 0 (H = I) when everything after the first entry is already 0.
 * Golub and Van Loan, Matrix Computations, 4th edition, algorithm 5.1.1, in LAPACK's scaling (v₁ = 1, β opposes x₁).
 */
export function makeReflector(vector: Float64Array, start: number, end: number): [tau: number, beta: number] {
  const first = vector[start];
  let tail = 0;
  for (let i = start + 1; i < end; i++) tail += vector[i] ** 2;
  if (tail === 0) {
    vector[start] = 1;
    return [0, first];
  }
  const norm = Math.sqrt(first * first + tail);
  const beta = first >= 0 ? -norm : norm;
  const scale = 1 / (first - beta);
  for (let i = start + 1; i < end; i++) vector[i] = vector[i] * scale;
  vector[start] = 1;
  return [(beta - first) / beta, beta];
}

/**
 * M ← M·H on rows [rowStart, rowEnd) of a row-major matrix, where H = I − τ·v·vᵀ acts on the columns [start, end).
 * v stands in `reflector[offset + start … offset + end)`.
 */
export function reflectColumns(
  matrix: Float64Array,
  stride: number,
  rowStart: number,
  rowEnd: number,
  reflector: Float64Array,
  offset: number,
  start: number,
  end: number,
  tau: number,
): void {
  if (tau === 0) return;
  for (let i = rowStart; i < rowEnd; i++) {
    const row = i * stride;
    let dot = 0;
    for (let j = start; j < end; j++) {
      dot += matrix[row + j] * reflector[offset + j];
    }
    const factor = tau * dot;
    if (factor === 0) continue;
    for (let j = start; j < end; j++) {
      matrix[row + j] = matrix[row + j] - factor * reflector[offset + j];
    }
  }
}

/**
 * M ← H·M on columns [columnStart, columnEnd), where H acts on the rows [start, end). `scratch` holds at least
 * `columnEnd` numbers. Works row by row so that every access is contiguous.
 */
export function reflectRows(
  matrix: Float64Array,
  stride: number,
  columnStart: number,
  columnEnd: number,
  reflector: Float64Array,
  offset: number,
  start: number,
  end: number,
  tau: number,
  scratch: Float64Array,
): void {
  if (tau === 0) return;
  scratch.fill(0, columnStart, columnEnd);
  for (let i = start; i < end; i++) {
    const row = i * stride;
    const v = reflector[offset + i];
    if (v === 0) continue;
    for (let j = columnStart; j < columnEnd; j++) {
      scratch[j] = scratch[j] + v * matrix[row + j];
    }
  }
  for (let i = start; i < end; i++) {
    const row = i * stride;
    const factor = tau * reflector[offset + i];
    if (factor === 0) continue;
    for (let j = columnStart; j < columnEnd; j++) {
      matrix[row + j] = matrix[row + j] - factor * scratch[j];
    }
  }
}
