import type { DeviceInfo } from '../../device/device.js';
import type { Kernel } from '../../device/kernel.js';
import { matvecMatmul, matvecTile } from './matvec.wgsl.js';
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
  /** Neighbours in b's memory lie along k, not along n. */
  readonly bAlongK: boolean;
  /** Both operands can be read as 4-vectors along k. */
  readonly vectors: boolean;
}

/** A kernel, its compile-time constants, and how the output is cut for it. */
export interface KernelChoice {
  readonly kernel: Kernel;
  readonly constants: Readonly<Record<string, number | boolean>>;
  /** Rows and columns of one tile of the output. */
  readonly tile: readonly [number, number];
  /** Tiles in one workgroup. */
  readonly tilesOfGroup: number;
  /** Workgroups that fill the adapter: with fewer, the sum over k is cut into pieces. */
  readonly fullGroups: number;
}

/** Most rows that count as few: the product is then bound by reading b. */
export const FEW_ROWS = 8;

/** Subgroup sizes that the subgroup kernel is written for: those of the software adapters. */
const SUBGROUP_SIZES = [4, 8];

/** Rows of a subgroup's tile: more leave too few registers, fewer load too much (measured on both software adapters). */
const SUBGROUP_ROWS = 16;

/** Workgroups of each kind that fill an adapter. The matvec kernel waits for memory: many must be under way. */
const FULL = { software: 8, tiled: 256, matvec: 2048 };

/** A piece of the sum over k is at least this long. */
const SHORTEST_PIECE = 256;

/** Chooses the kernel for a product: the one place that knows which is best where. */
export function chooseKernel(info: DeviceInfo, situation: MatmulSituation): KernelChoice {
  const { m, n, batch } = situation;
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
  if (m <= FEW_ROWS) {
    const rows = fewRows(m);
    const constants = { rows, alongK: situation.bAlongK, vector: situation.vectors };
    return {
      kernel: matvecMatmul,
      constants,
      tile: matvecTile(rows, situation.bAlongK),
      tilesOfGroup: 1,
      fullGroups: FULL.matvec,
    };
  }
  const tile = batch * Math.ceil(m / 128) * Math.ceil(n / 128) >= FULL.tiled / 2 ? 128 : 64;
  return { kernel: tiledMatmul, constants: { tile }, tile: [tile, tile], tilesOfGroup: 1, fullGroups: FULL.tiled };
}

/** Rows of a tile for few rows: not every number of them, since each is a pipeline to compile. */
function fewRows(m: number): number {
  return m === 1 ? 1 : m <= 4 ? 4 : 8;
}

/** How long the pieces are that the sum over k is cut into, so that few and small outputs still fill the adapter. */
export function chooseChunk(k: number, groups: number, { fullGroups }: KernelChoice): number {
  const pieces = Math.max(1, Math.min(Math.ceil(fullGroups / groups), Math.floor(k / SHORTEST_PIECE)));
  return pieces === 1 ? k : Math.ceil(k / pieces / 16) * 16;
}
