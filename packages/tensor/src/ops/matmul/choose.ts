import type { DType } from '../../core/dtype.js';
import type { DeviceInfo, MatrixShape } from '../../device/device.js';
import type { Kernel } from '../../device/kernel.js';
import { HALVES, matrixMatmul } from './matrix.wgsl.js';
import { matvecMatmul, matvecTile } from './matvec.wgsl.js';
import {
  fewRowsGroups,
  fewRowsPlans,
  GATED_PLAN,
  LARGE_PLAN,
  type MatmulPick,
  MOST_FEW_ROWS,
  matrixConstants,
  SMALL_PLAN,
} from './plans.js';
import { REGISTER_TILE, registerMatmul } from './register.wgsl.js';
import { subgroupMatmul, subgroupTile } from './subgroup.wgsl.js';
import { tiledMatmul } from './tiled.wgsl.js';

/** What the choice of a kernel depends on. */
export interface MatmulSituation {
  readonly m: number;
  readonly n: number;
  readonly k: number;
  /** Matrices in the output. */
  readonly batch: number;
  /** For each operand also whether its neighbours in memory lie along k, not along m or n. */
  readonly a: MemorySituation & { readonly alongK: boolean };
  readonly b: MemorySituation & { readonly alongK: boolean };
  /** The output, and whether its neighbours lie along n, not along m. */
  readonly c: MemorySituation & { readonly alongN: boolean };
}

/** How a matrix of the product lies in memory. */
interface MemorySituation {
  readonly dtype: DType;
  /** Of 1, 2, 4 and 8 elements the longest vector that it can be read or written in: lines, matrices and start fit it. */
  readonly aligned: number;
}

/** A kernel, its compile-time constants, and how the output is cut for it. */
export interface KernelChoice {
  readonly kernel: Kernel;
  readonly constants: Readonly<Record<string, number | boolean>>;
  /** How operands and output are bound, where not as elements of their dtype. */
  readonly bound?: Readonly<Partial<Record<'a' | 'b' | 'c', VectorBinding>>>;
  /** Rows and columns of one tile of the output. */
  readonly tile: readonly [number, number];
  /** Tiles in one workgroup. */
  readonly tilesOfGroup: number;
  /** Workgroups that fill the adapter: with fewer, the sum over k is cut into pieces. */
  readonly fullGroups: number;
  /** Pieces of the sum over k are multiples of this. Default 16. */
  readonly step?: number;
  /** Elements along k that the kernel counts as one. Default 1. */
  readonly kUnit?: number;
  /** Pieces of the sum over k, where they are not for {@link chooseChunk} to find. */
  readonly pieces?: number;
}

/** A binding as vectors. */
export interface VectorBinding {
  /** Elements of the tensor in one vector: starts and strides count vectors. */
  readonly elements: number;
  /** What the kernel sees instead of the tensor's dtype. */
  readonly dtype?: DType;
}

/** Most rows that count as few: the product is then bound by reading b. */
export const FEW_ROWS = 8;

/**
 * Rows from which, and elements of b from which, the matrix units are faster than kernels that read b once for all of
 * few rows: at 8 rows 43 against 64 µs for 14336 × 4096, but 38 against 31 for 4096² (on an H200). With 2048 × 8192 it
 * is faster alone and not in a decoding step (docs/log.md).
 */
const HEAVY = { rows: 5, elements: 2 ** 25 };

/** Whether a product of few rows and a large b, in float16, is one for the matrix units all the same. */
export function isHeavy(info: DeviceInfo, m: number, n: number, k: number): boolean {
  return m >= HEAVY.rows && n * k >= HEAVY.elements && hasMatrixUnits(info);
}

/** Subgroup sizes that the subgroup kernel is written for: those of the software adapters. */
const SUBGROUP_SIZES = [4, 8];

/** Rows of a subgroup's tile: more leave too few registers, fewer load too much (measured on both software adapters). */
const SUBGROUP_ROWS = 16;

/** Workgroups of each kind that fill an adapter. The matvec kernel waits for memory: many must be under way. */
const FULL = { software: 8, tiled: 256, matvec: 2048, matrix: 256 };

/** A piece of the sum over k is at least this long. */
const SHORTEST_PIECE = 256;

/**
 * Chooses the kernel for a product: the one place that knows which is best where. On the matrix units `pick`, what
 * tuning found for the product, goes before the table.
 */
export function chooseKernel(info: DeviceInfo, situation: MatmulSituation, pick?: MatmulPick): KernelChoice {
  const { m, n, k, batch } = situation;
  if (info.software) {
    const lanes = info.subgroupSize;
    if (!SUBGROUP_SIZES.includes(lanes)) {
      return {
        kernel: registerMatmul,
        constants: {},
        tile: REGISTER_TILE,
        tilesOfGroup: 64,
        fullGroups: FULL.software,
      };
    }
    const rows = m > FEW_ROWS ? SUBGROUP_ROWS : fewRows(m);
    const constants = { lanes, rows, step: lanes === 4 ? 2 : 1 };
    return {
      kernel: subgroupMatmul,
      constants,
      tile: subgroupTile(rows, lanes),
      tilesOfGroup: 1,
      fullGroups: FULL.software,
    };
  }
  const matrix = m > FEW_ROWS || isHeavy(info, m, n, k) ? matrixChoice(info, situation, pick) : undefined;
  if (matrix) return matrix;
  if (m <= FEW_ROWS) {
    const rows = fewRows(m);
    const { a, b } = situation;
    const vector = a.alongK && b.alongK && a.aligned >= 4 && b.aligned >= 4;
    return {
      kernel: matvecMatmul,
      constants: { rows, alongK: b.alongK, vector },
      ...(vector && { bound: { a: { elements: 4 }, b: { elements: 4 } }, kUnit: 4 }),
      tile: matvecTile(rows, b.alongK),
      tilesOfGroup: 1,
      fullGroups: FULL.matvec,
    };
  }
  const tile = batch * Math.ceil(m / 128) * Math.ceil(n / 128) >= FULL.tiled / 2 ? 128 : 64;
  return { kernel: tiledMatmul, constants: { tile }, tile: [tile, tile], tilesOfGroup: 1, fullGroups: FULL.tiled };
}

/** Subgroup sizes by which the tiles are dealt out evenly. Only 32 has been run. */
const MATRIX_LANES = [8, 16, 32, 64];

/** Shortest side of a product for the matrix units: below it most of a tile is padding. */
const SHORTEST_SIDE = 32;

function hasMatrixUnits(info: DeviceInfo): boolean {
  return (
    matrixShape(info.subgroupMatrix) !== undefined &&
    info.float16 &&
    !info.software &&
    MATRIX_LANES.includes(info.subgroupSize)
  );
}

/** The kernel for matrix units, where the adapter has them and the product suits them. */
function matrixChoice(info: DeviceInfo, situation: MatmulSituation, pick?: MatmulPick): KernelChoice | undefined {
  const { m, n, k, batch, a, b, c } = situation;
  const shape = matrixShape(info.subgroupMatrix);
  if (!shape || !hasMatrixUnits(info)) return undefined;
  if (a.dtype !== 'float16' || b.dtype !== 'float16' || !c.alongN) return undefined;
  const few =
    m <= MOST_FEW_ROWS && m >= HEAVY.rows && a.alongK && b.alongK && a.aligned >= HALVES && b.aligned >= HALVES;
  if (Math.min(few ? SHORTEST_SIDE : m, n, k) < SHORTEST_SIDE) return undefined;
  const tiles = batch * Math.ceil(m / 128) * Math.ceil(n / 128);
  const large = tiles >= FULL.matrix / 8 ? [LARGE_PLAN] : [];
  const table = few ? fewRowsPlans(situation) : [...large, SMALL_PLAN];
  for (const plan of pick ? [pick.plan, ...table] : table) {
    const constants = matrixConstants(info, shape, plan, situation);
    if (!constants) continue;
    const halves = { elements: HALVES, dtype: 'uint32' } as const;
    return {
      kernel: matrixMatmul,
      constants: { ...constants },
      bound: {
        ...(constants.aVectors && { a: halves }),
        ...(constants.bVectors && { b: halves }),
        ...(constants.cVectors && { c: { elements: 4 } }),
      },
      tile: [plan.rows, plan.columns],
      tilesOfGroup: 1,
      fullGroups: few ? fewRowsGroups(situation) : FULL.matrix,
      step: plan.step,
      ...(plan === pick?.plan && { pieces: pick.pieces }),
    };
  }
  return undefined;
}

/** Columns of each weight from which a gated product in one piece has enough tiles for an adapter. */
const GATED_COLUMNS = 2048;

/** Rows from which its tiles of 64 rows are worth it. */
const GATED_ROWS = 17;

/** The kernel for matrix units that computes both products of a gated MLP at once, where it can: for 17 to 64 rows. */
export function chooseGated(info: DeviceInfo, situation: MatmulSituation): KernelChoice | undefined {
  const { m, n, a, b, c } = situation;
  if (m < GATED_ROWS || m > MOST_FEW_ROWS || n < GATED_COLUMNS) return undefined;
  if (a.aligned < HALVES || b.aligned < HALVES || c.aligned < 4) return undefined;
  const { rows, columns } = GATED_PLAN;
  // Shorter steps where workgroup memory is short.
  for (const step of [GATED_PLAN.step, GATED_PLAN.step / 2]) {
    const choice = matrixChoice(info, situation, { plan: { ...GATED_PLAN, step }, pieces: 1 });
    const { subgroupColumns, step: chosen } = choice?.constants ?? {};
    // Half the columns of a tile are the other weight's.
    if (choice?.tile[0] === rows && subgroupColumns === columns && chosen === step)
      return { ...choice, tile: [rows, columns / 2] };
  }
  return undefined;
}

/** The configuration to use of those there are: 16 × 16 × 16, or another that divides the tiles evenly. */
function matrixShape(shapes: readonly MatrixShape[]): MatrixShape | undefined {
  const fits = shapes.filter(({ m, n, k }) => [m, n, k].every((size) => size === 8 || size === 16));
  return fits.sort((one, other) => other.m * other.n * other.k - one.m * one.n * one.k)[0];
}

/** Rows of a tile for few rows: not every number of them, since each is a pipeline to compile. */
function fewRows(m: number): number {
  return m === 1 ? 1 : m <= 4 ? 4 : 8;
}

/** How long the pieces are that the sum over k is cut into, so that few and small outputs still fill the adapter. */
export function chooseChunk(k: number, groups: number, { fullGroups, step = 16, ...choice }: KernelChoice): number {
  const most = Math.max(1, Math.floor(k / SHORTEST_PIECE));
  const pieces = Math.min(choice.pieces ?? Math.ceil(fullGroups / groups), most);
  return pieces === 1 ? k : Math.ceil(k / pieces / step) * step;
}
