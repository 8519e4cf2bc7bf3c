import { InitError, type InitWarning } from './init-error.js';

/** The rotation frequencies that `ropeRows: 'frequency-aware'` matches. */
export interface RopeMatching {
  /** The attention layer's frequencies in radians a token, scaled as it scales them: d_h/2 of them, of pairs (j, j+d_h/2). */
  readonly teacherFrequencies: ArrayLike<number>;
  /** The MLA layer's frequencies, scaled as it scales them: d_rope/2 of them, of pairs (2i, 2i+1). */
  readonly frequencies: ArrayLike<number>;
  /**
   * The m by which the MLA layer multiplies cos and sin (YaRN); the rope rows of q and k are divided by it, since the
   * attention layer has no such factor. Default 1: rows are left as they are.
   */
  readonly amplitude?: number;
}

/** The sizes that a choice of rows depends on. */
export interface RopeRowSizes {
  readonly headDim: number;
  readonly qkNopeHeadDim: number;
  readonly qkRopeHeadDim: number;
}

/** Which of the d_h rows of a head go where; −1 stands for a row of zeros. */
export interface RopeRowChoice {
  readonly queryNope: readonly number[];
  readonly keyNope: readonly number[];
  readonly rope: readonly number[];
  /** What the rope rows of q and of k are multiplied by. */
  readonly ropeScale: number;
  readonly warnings: readonly InitWarning[];
}

/** The reference's choice: the first d_nope rows are nope, the last d_rope rows are rope, whatever pairs that tears apart. */
export function lastRopeRows(sizes: RopeRowSizes): RopeRowChoice {
  const { headDim, qkNopeHeadDim, qkRopeHeadDim } = sizes;
  const nope = Array.from({ length: qkNopeHeadDim }, (_, i) => i);
  const rope = Array.from({ length: qkRopeHeadDim }, (_, i) => headDim - qkRopeHeadDim + i);
  return { queryNope: nope, keyNope: nope, rope, ropeScale: 1, warnings: [] };
}

/**
 * The choice that keeps the rotation where it can be kept. Llama rotates rows (j, j+d_h/2) of a head together; MLA
 * rotates rows (2i, 2i+1) of its rope part. Every rope pair i gets both rows of one teacher pair, each teacher pair at
 * most once, such that Σ |ln(f_i / f_j)| is smallest. The nope part, which MLA does not rotate, gets the other rows in
 * ascending order:
 *
 * - more rows left than d_nope: the rows of the fastest pairs are dropped (not rotating them is most wrong), the second
 *   row of a pair before the first; a warning says how many
 * - fewer left than d_nope: the surplus slots hold, in q, copies of the rope rows (slowest pair first) and, in k, zeros:
 *   they add nothing to the scores but have a gradient; a warning says how many
 */
export function frequencyAwareRopeRows(sizes: RopeRowSizes, matching: RopeMatching): RopeRowChoice {
  const { headDim, qkNopeHeadDim, qkRopeHeadDim } = sizes;
  const teacher = checkFrequencies('rope.teacherFrequencies', matching.teacherFrequencies, headDim / 2);
  const own = checkFrequencies('rope.frequencies', matching.frequencies, qkRopeHeadDim / 2);
  const { amplitude = 1 } = matching;
  if (!(amplitude > 0 && amplitude < Infinity)) {
    throw new InitError({
      code: 'argument',
      operation: 'frequencyAwareRopeRows',
      argument: 'rope.amplitude',
      expected: 'a positive finite number',
      got: String(amplitude),
      advice: 'Pass the factor that the layer multiplies cos and sin by, or leave it out.',
    });
  }
  const half = headDim / 2;
  const matched = matchFrequencies(own, teacher);
  const rope = matched.flatMap((j) => [j, j + half]);
  // Slowest first, a pair's two rows together.
  const slowestFirst = (pairs: number[]) =>
    pairs.sort((a, b) => teacher[a] - teacher[b] || a - b).flatMap((j) => [j, j + half]);
  const left = slowestFirst(Array.from(teacher.keys()).filter((j) => !matched.includes(j)));
  const ascending = left.slice(0, qkNopeHeadDim).sort((a, b) => a - b);
  const surplus = qkNopeHeadDim - ascending.length;
  const copies = surplus > 0 ? slowestFirst([...matched]) : [];
  const warnings: InitWarning[] = [];
  if (left.length > qkNopeHeadDim) {
    warnings.push({
      code: 'nope-rows-dropped',
      argument: 'qkNopeHeadDim',
      message: `${left.length - qkNopeHeadDim} of ${headDim} query and key rows of every head have no place and are dropped`,
    });
  }
  if (surplus > 0) {
    warnings.push({
      code: 'nope-rows-padded',
      argument: 'qkNopeHeadDim',
      message: `${surplus} of ${qkNopeHeadDim} nope rows of every head have no counterpart; they start without effect`,
    });
  }
  return {
    queryNope: [...ascending, ...Array.from({ length: surplus }, (_, i) => copies[i % copies.length])],
    keyNope: [...ascending, ...Array.from({ length: surplus }, () => -1)],
    rope,
    ropeScale: 1 / amplitude,
    warnings,
  };
}

/**
 * For each of `wanted` the index of one of `offered`, no index twice, with the smallest Σ |ln(wanted / offered)|. On a
 * line the best assignment keeps the order, so a table over the two sorted lists finds it. Of equals, the faster one.
 */
function matchFrequencies(wanted: readonly number[], offered: readonly number[]): number[] {
  const fastestFirst = (list: readonly number[]) => Array.from(list.keys()).sort((a, b) => list[b] - list[a] || a - b);
  const rows = fastestFirst(wanted);
  const columns = fastestFirst(offered);
  const cost = (i: number, j: number) => Math.abs(Math.log(wanted[rows[i]] / offered[columns[j]]));
  // best[i][j]: the smallest cost of matching wanted i… with offered j….
  const best = Array.from({ length: rows.length + 1 }, (_, i) =>
    new Array<number>(columns.length + 1).fill(i === rows.length ? 0 : Infinity),
  );
  for (let i = rows.length - 1; i >= 0; i--) {
    for (let j = columns.length - 1; j >= 0; j--) {
      best[i][j] = Math.min(best[i][j + 1], cost(i, j) + best[i + 1][j + 1]);
    }
  }
  const result = new Array<number>(rows.length);
  for (let i = 0, j = 0; i < rows.length; j++) {
    if (cost(i, j) + best[i + 1][j + 1] <= best[i][j + 1]) result[rows[i++]] = columns[j];
  }
  return result;
}

function checkFrequencies(argument: string, frequencies: ArrayLike<number>, count: number): number[] {
  const list = Array.from(frequencies);
  if (list.length === count && list.every((frequency) => frequency > 0 && frequency < Infinity)) return list;
  throw new InitError({
    code: 'argument',
    operation: 'frequencyAwareRopeRows',
    argument,
    expected: `${count} positive finite frequencies, one for every rotated pair`,
    got: `${list.length}: ${list.slice(0, 4).join(', ')}${list.length > 4 ? ', …' : ''}`,
    advice: 'Pass the table that the layer rotates with, before it is multiplied by positions.',
  });
}
