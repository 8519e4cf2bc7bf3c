import type { Device, DeviceInfo, MatrixShape } from '../../device/device.js';
import type { MatmulSituation } from './choose.js';
import { HALVES, type MatrixConstants, type MatrixPlan, matrixMemory, matrixSubgroups } from './matrix.wgsl.js';

/** How a workgroup cuts an output for the matrix units: the best of a dozen on an H100 (docs/log.md). */
export const LARGE_PLAN: MatrixPlan = {
  rows: 128,
  columns: 128,
  step: 32,
  subgroupRows: 64,
  subgroupColumns: 64,
  group: 16,
  buffers: 1,
  ahead: true,
};

/** For outputs of few tiles, where small tiles keep more of the adapter busy, and for little workgroup memory. */
export const SMALL_PLAN: MatrixPlan = { ...LARGE_PLAN, rows: 64, columns: 64, subgroupRows: 32, subgroupColumns: 32 };

/** Most rows that the plans for few rows cover. */
export const MOST_FEW_ROWS = 64;

/** Columns from which an output of few rows has enough tiles of 64 columns for an adapter. */
const WIDE = 4096;

/** Columns from which it has so many, as a vocabulary has, that shorter steps were faster. */
const VAST = 32768;

/** From here on a sum over k is long: a workgroup alone would take it step by step for too long. */
const LONG = 4096;

/** Columns from which products of at most 16 rows have enough tiles of their own height. */
const MANY_COLUMNS = 8192;

/**
 * Rows of the tiles for few rows. Where columns are few or the sum over k is long, tiles of 64 rows that are mostly
 * empty are faster than lower ones, which do not keep enough of b under way: at 16 rows 30 against 64 µs for 2048 columns
 * and sums of 8192, and 71 against 175 for 4096 and 14336 (docs/log.md).
 */
function fewRowsTile({ m, n, k }: Pick<MatmulSituation, 'm' | 'n' | 'k'>): 16 | 32 | typeof MOST_FEW_ROWS {
  if (m <= 16) return n >= MANY_COLUMNS ? 16 : MOST_FEW_ROWS;
  return m <= 32 && n < WIDE && k < LONG ? 32 : MOST_FEW_ROWS;
}

/**
 * For few rows, as in decoding for many: what matters is that much of b is under way at once, so the steps along k are
 * long. For 33 to 64 rows these are the best of 54 on an H100, those of wide products within a decoding step, where b
 * comes from memory (docs/log.md): repeated alone, out of the cache, two buffers and half the step had seemed faster.
 */
function fewRowsPlan(situation: Pick<MatmulSituation, 'm' | 'n' | 'k'>): MatrixPlan {
  const { n, k } = situation;
  const rows = fewRowsTile(situation);
  if (rows === MOST_FEW_ROWS) {
    const square = { ...LARGE_PLAN, rows, columns: 64, subgroupRows: 32, subgroupColumns: 32 };
    if (n >= VAST) return { ...square, step: 64 };
    if (n >= WIDE) return { ...square, step: 128, subgroupRows: 16, subgroupColumns: 64 };
    if (k >= LONG) return { ...square, step: 128 };
    return { ...LARGE_PLAN, rows, columns: 32, step: 128, subgroupRows: 32, subgroupColumns: 16 };
  }
  // Four subgroups of one matrix, or two where there is no more to share.
  return { ...LARGE_PLAN, rows, columns: rows === 16 ? 64 : 32, step: 128, subgroupRows: 16, subgroupColumns: 16 };
}

/** The plan for few rows, and the same with shorter steps for adapters with less workgroup memory. */
export function fewRowsPlans(situation: Pick<MatmulSituation, 'm' | 'n' | 'k'>): readonly MatrixPlan[] {
  const plan = fewRowsPlan(situation);
  return [plan, { ...plan, step: plan.step / 2 }, { ...plan, step: plan.step / 4 }, SMALL_PLAN];
}

/** The plan of the wide products of few rows, for two weights at once. */
export const GATED_PLAN: MatrixPlan = {
  ...LARGE_PLAN,
  rows: MOST_FEW_ROWS,
  columns: 64,
  step: 128,
  subgroupRows: 16,
  subgroupColumns: 64,
};

/**
 * Workgroups that are enough for few rows: with fewer, the sum over k is cut into pieces. Where it is not long, adding
 * up the pieces costs more than 64 workgroups leave idle (measured for 64 rows).
 */
export function fewRowsGroups(situation: Pick<MatmulSituation, 'm' | 'n' | 'k'>): number {
  return fewRowsTile(situation) === MOST_FEW_ROWS && situation.k < LONG ? 64 : 128;
}

/** How one product is to be computed: what tuning finds. */
export interface MatmulPick {
  readonly plan: MatrixPlan;
  /** Pieces that the sum over k is cut into. */
  readonly pieces: number;
}

/** Whether the kernel can be written for a plan: every loop without remainder, lines dealt out in eights. */
function isSound(constants: MatrixConstants): boolean {
  const { rows, columns, step, subgroupRows, subgroupColumns, matrixM, matrixN, matrixK, lanes } = constants;
  const divides = (unit: number, ...sizes: number[]) => sizes.every((size) => size > 0 && size % unit === 0);
  if (!divides(16, rows, columns, step, subgroupRows, subgroupColumns)) return false;
  if (!divides(subgroupRows, rows) || !divides(subgroupColumns, columns)) return false;
  if (!divides(matrixM, subgroupRows) || !divides(matrixN, subgroupColumns) || !divides(matrixK, step)) return false;
  const threads = lanes * matrixSubgroups(constants);
  const widths = [step / HALVES, rows / HALVES, columns / HALVES];
  return (
    widths.every((width) => threads % width === 0) &&
    (threads / (step / HALVES)) % 8 === 0 &&
    divides(threads, (rows * step) / HALVES, (columns * step) / HALVES) &&
    (matrixM * subgroupColumns) % (4 * lanes) === 0
  );
}

/** Invocations of a workgroup that every adapter allows. */
const MOST_INVOCATIONS = 256;

/** The constants of a plan for a product, or undefined where the adapter cannot run it. */
export function matrixConstants(
  info: DeviceInfo,
  shape: MatrixShape,
  plan: MatrixPlan,
  { a, b, c }: Pick<MatmulSituation, 'a' | 'b' | 'c'>,
): MatrixConstants | undefined {
  const constants: MatrixConstants = {
    ...plan,
    matrixM: shape.m,
    matrixN: shape.n,
    matrixK: shape.k,
    lanes: info.subgroupSize,
    aAlongK: a.alongK,
    bAlongK: b.alongK,
    aVectors: a.aligned >= HALVES,
    bVectors: b.aligned >= HALVES,
    cVectors: c.aligned >= 4,
  };
  if (!isSound(constants) || constants.lanes * matrixSubgroups(constants) > MOST_INVOCATIONS) return undefined;
  return matrixMemory(constants) <= info.workgroupMemory ? constants : undefined;
}

/** What tells products apart that may be computed in different ways. */
export function productKey({ m, n, k, batch, a, b, c }: MatmulSituation): string {
  const layout = `${a.alongK ? 'N' : 'T'}${b.alongK ? 'T' : 'N'}`;
  return `${batch === 1 ? '' : `${batch}x`}${m}x${n}x${k} ${layout} ${c.dtype}`;
}

const picks = new WeakMap<Device, Map<string, MatmulPick>>();

/** The picks of a device, by {@link productKey}. */
export function picksOf(device: Device): Map<string, MatmulPick> {
  let map = picks.get(device);
  if (!map) {
    map = new Map();
    picks.set(device, map);
  }
  return map;
}

/** What tuning found for a product, if it was asked. */
export function pickFor(device: Device, situation: MatmulSituation): MatmulPick | undefined {
  const map = picks.get(device);
  return map && map.size > 0 ? map.get(productKey(situation)) : undefined;
}
