import type { DType } from '../../core/dtype.js';
import type { DeviceInfo } from '../../device/device.js';
import { ZebraError } from '../../errors.js';
import type { MaskKind } from './mask.wgsl.js';
import { forwardMemory } from './matrix-forward.wgsl.js';
import { gradientMemory } from './matrix-gradient.wgsl.js';
import { cutsEvenly, type MatrixConstants, type MatrixTile } from './matrix-tile.wgsl.js';
import type { Sizes } from './sizes.js';

/** The kernels for matrix units: forward, the gradient of q, the gradients of k and v. */
export type MatrixPass = 'forward' | 'query' | 'key';

/** Tiles to take instead of the chosen ones. */
export type MatrixTiles = Readonly<Partial<Record<MatrixPass, MatrixTile>>>;

type HeadSizes = Pick<Sizes, 'keySize' | 'valueSize' | 'valueWidth'>;

const tile = (
  rows: number,
  step: number,
  subgroups: number,
  scoreRows: number,
  buffers = 1,
  prefetch = true,
): MatrixTile => ({ rows, step, subgroups, scoreRows, buffers, prefetch });

/** Longest rows that count as short: more of them fit registers. */
const SHORT = 80;

/**
 * Tiles by preference: the first that cuts the heads evenly and fits the workgroup's memory is taken. The first of each
 * list was the fastest of a sweep on an H100 (docs/results); what tiles cost is estimated in README.md.
 */
const TILES: Readonly<
  Record<MatrixPass, { readonly short: readonly MatrixTile[]; readonly long: readonly MatrixTile[] }>
> = {
  forward: {
    short: [tile(64, 32, 4, 32), tile(64, 32, 2, 32), tile(32, 16, 1, 32)],
    long: [tile(64, 32, 4, 32), tile(64, 32, 2, 32), tile(32, 16, 1, 32)],
  },
  query: {
    short: [tile(64, 32, 8, 16), tile(64, 32, 4, 32), tile(32, 16, 1, 32)],
    long: [tile(64, 32, 8, 16), tile(32, 32, 2, 32), tile(32, 16, 1, 32)],
  },
  key: {
    short: [tile(64, 32, 4, 32), tile(32, 32, 2, 32), tile(32, 16, 1, 32)],
    long: [tile(64, 32, 8, 16), tile(32, 32, 2, 32), tile(32, 16, 1, 32)],
  },
};

/** Lanes of a subgroup and sides of a matrix that the kernels are written for. */
const LANES = 32;
const SIDE = 16;

/** The constants of a variant, where the tile suits the heads and the adapter. */
export function matrixConstants(
  info: Pick<DeviceInfo, 'workgroupMemory'>,
  pass: MatrixPass,
  { keySize, valueSize, valueWidth }: HeadSizes,
  mask: MaskKind,
  chosen: MatrixTile,
): MatrixConstants | undefined {
  const c = {
    ...chosen,
    lanes: LANES,
    matrixM: SIDE,
    matrixN: SIDE,
    matrixK: SIDE,
    keySize,
    valueSize,
    valueWidth,
    mask,
  };
  const sums = { forward: [valueSize], query: [keySize], key: [keySize, valueSize] }[pass];
  if (!cutsEvenly(c, sums)) return undefined;
  const memory = pass === 'forward' ? forwardMemory(c) : gradientMemory(pass, c);
  return memory <= info.workgroupMemory ? c : undefined;
}

/** Most elements of a head: the registers of a subgroup hold no more. */
const MOST = 128;

/**
 * The variant of a kernel for matrix units that serves a call, or undefined where the adapter, the dtypes or the sizes
 * of the heads do not suit them.
 */
export function chooseMatrix(
  info: DeviceInfo,
  pass: MatrixPass,
  sizes: HeadSizes,
  mask: MaskKind,
  dtypes: readonly DType[],
  tiles: MatrixTiles = {},
): MatrixConstants | undefined {
  if (info.software || !info.float16 || info.subgroupSize !== LANES) return undefined;
  if (!info.subgroupMatrix.some(({ m, n, k }) => m === SIDE && n === SIDE && k === SIDE)) return undefined;
  if (dtypes.some((dtype) => dtype !== 'float16')) return undefined;
  const longest = Math.max(sizes.keySize, sizes.valueSize);
  if (longest > MOST) return undefined;
  const given = tiles[pass];
  if (given) {
    const constants = matrixConstants(info, pass, sizes, mask, given);
    if (!constants) throw new ZebraError('argument', `attention: the tile ${JSON.stringify(given)} does not fit`);
    return constants;
  }
  for (const candidate of TILES[pass][longest <= SHORT ? 'short' : 'long']) {
    const constants = matrixConstants(info, pass, sizes, mask, candidate);
    if (constants) return constants;
  }
  return undefined;
}
