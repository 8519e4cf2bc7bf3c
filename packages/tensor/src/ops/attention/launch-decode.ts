import { allocateTensor } from '../../core/define-op.js';
import type { Tensor } from '../../core/tensor.js';
import type { BoundRange } from '../../device/device.js';
import { decodeMerge, decodeRows, decodeTiled, MOST_QUERY, PART } from './decode.wgsl.js';
import { decodeLanes, LANE_ELEMENTS } from './decode-lanes.wgsl.js';
import { type DecodeMatrixConstants, decodeMatrix, decodeMatrixMemory, MATRIX_SIDE } from './decode-matrix.wgsl.js';
import type { Call } from './launch.js';
import type { Sizes } from './sizes.js';

// Keys of a part on a software adapter: few, so that every lane has some.
const SOFTWARE_PART = 32;
// Workgroups that keep a large GPU busy: the keys are not cut into more parts than that takes.
const FULL = 1056;
// Workgroups of the kernel for matrix units that a large GPU runs at once: four fit the workgroup memory of each of 132
// multiprocessors. All take equally long, so a few more than that would take as long again.
const FULL_MATRIX = 528;
// Fewest keys of a part of the kernel for lanes: one turn of its loop.
const SHORTEST_PART = 64;
// Keys that a lane of that kernel asks for at once. Small subgroups are those of software adapters, which take half a
// minute to compile four.
const AHEAD = (subgroupSize: number) => (subgroupSize >= 32 ? 4 : 2);
// Query heads of one key head that a workgroup of that kernel holds in registers.
const MOST_HEADS = 4;

// Heads of a token that are too few to fill a tile of 16 with.
const FEW_HEADS = 8;
// Columns of a value that the four subgroups of that kernel own, one matrix each.
const COLUMNS_OF_ALL = 4 * MATRIX_SIDE;

/** How the keys are cut, and by which kernel. */
interface Plan {
  readonly kind: 'rows' | 'tiled' | 'lanes' | 'matrix';
  readonly tileHeads: number;
  readonly parts: number;
  readonly constants: Readonly<Record<string, number>>;
}

function planOf(call: Call): Plan {
  const { sizes, q, k, v } = call;
  const { info } = call.device;
  const { batch, queries, heads, keys, keySize, valueSize, valueWidth, group } = sizes;
  const plain = { keySize, valueSize, valueWidth };
  if (info.software) return { kind: 'rows', tileHeads: 1, parts: Math.ceil(keys / SOFTWARE_PART), constants: plain };
  const matrix = matrixConstants(call);
  if (matrix) {
    const enough = Math.max(1, Math.floor(FULL_MATRIX / (batch * queries * Math.ceil(heads / matrix.tileHeads))));
    const parts = Math.min(Math.ceil(keys / SHORTEST_PART), enough);
    return { kind: 'matrix', tileHeads: matrix.tileHeads, parts, constants: { ...matrix } };
  }
  if (fitsLanes(sizes, info.subgroups ? info.subgroupSize : 0) && [q, k, v].every(({ offset }) => offset % 256 === 0)) {
    const tileHeads = [MOST_HEADS, 2].find((n) => group % n === 0) ?? 1;
    const enough = Math.ceil(FULL / (batch * queries * (heads / tileHeads)));
    const constants = { size: keySize, tileHeads, ahead: AHEAD(info.subgroupSize) };
    return { kind: 'lanes', tileHeads, parts: Math.min(Math.ceil(keys / SHORTEST_PART), enough), constants };
  }
  const tileHeads = [4, 2].find((n) => group % n === 0 && n * keySize <= MOST_QUERY) ?? 1;
  return { kind: 'tiled', tileHeads, parts: Math.ceil(keys / PART), constants: { ...plain, tileHeads } };
}

/** The variant for matrix units, where the adapter has them and rows are keys and values of many heads at once. */
function matrixConstants({ device: { info }, sizes, q, k, v }: Call): DecodeMatrixConstants | undefined {
  const { keySize, valueSize, group, keyHeads, heads } = sizes;
  const lanes = info.subgroupSize;
  const fits =
    info.subgroupMatrix.some(({ m, n, k: depth }) => [m, n, depth].every((size) => size === MATRIX_SIDE)) &&
    lanes === 32 &&
    [q, k].every(({ dtype, offset }) => dtype === 'float16' && offset % 256 === 0) &&
    k.storage === v.storage &&
    k.offset === v.offset &&
    // Only the last tile of a token can be filled up.
    (group % MATRIX_SIDE === 0 || (keyHeads === 1 && heads > FEW_HEADS)) &&
    keySize % MATRIX_SIDE === 0 &&
    valueSize % MATRIX_SIDE === 0 &&
    // The subgroups' columns lie inside of a row.
    Math.ceil(valueSize / COLUMNS_OF_ALL) * COLUMNS_OF_ALL <= keySize;
  if (!fits) return undefined;
  const side = { matrixM: MATRIX_SIDE, matrixN: MATRIX_SIDE, matrixK: MATRIX_SIDE, lanes, keySize, valueSize };
  const tiles = [
    [32, 64],
    [32, 32],
    [16, 64],
  ] as const;
  const tilesOf = (tileHeads: number) => Math.ceil(group / tileHeads);
  return tiles
    .filter(([tileHeads]) => keyHeads === 1 || group % tileHeads === 0)
    .sort(([one], [other]) => tilesOf(one) - tilesOf(other) || tilesOf(one) * one - tilesOf(other) * other)
    .map(([tileHeads, tileKeys]) => ({ ...side, tileHeads, tileKeys }))
    .find((constants) => decodeMatrixMemory(constants) <= info.workgroupMemory);
}

/** Whether the lanes of a subgroup hold a row: keys and values of one size, a power of two. */
function fitsLanes({ keySize, valueSize, valueWidth }: Sizes, subgroupSize: number): boolean {
  const lanes = keySize / LANE_ELEMENTS;
  return (
    valueSize === keySize &&
    valueWidth === keySize &&
    lanes <= subgroupSize &&
    Number.isInteger(Math.log2(lanes)) &&
    lanes >= 1
  );
}

/** Few queries: splits the keys over workgroups (over invocations on a software adapter) and merges the parts. */
export function launchDecode(call: Call, y: Tensor, lse: Tensor): void {
  const { device, sizes, scale, q, k, v, segments, keySegments, keyLength } = call;
  const { batch, queries, heads, keys, keySize, valueSize, valueWidth, group, keyHeads } = sizes;
  const { kind, parts, tileHeads, constants } = planOf(call);
  const headRows = Math.ceil(heads / tileHeads) * tileHeads;
  const rows = batch * queries * headRows;
  const partial = allocateTensor(device, { shape: [rows, parts, valueSize], dtype: 'float32' });
  const totals = allocateTensor(device, { shape: [rows, parts, 2], dtype: 'float32' });
  const params = {
    tq: queries,
    tk: keys,
    heads,
    head_rows: headRows,
    key_heads: keyHeads,
    group,
    parts,
    unit: 1,
    scale,
  };
  const kernel = { rows: decodeRows, tiled: decodeTiled, lanes: decodeLanes, matrix: decodeMatrix }[kind];
  const bound = kind === 'lanes' || kind === 'matrix' ? packed : (tensor: Tensor) => tensor.range();
  const count = (rows / tileHeads) * parts;
  device.dispatch(kernel, {
    bindings: {
      q: bound(q),
      k: bound(k),
      // The matrix units find the values in the keys' rows.
      v: kind === 'matrix' ? undefined : bound(v),
      segments: segments?.range(),
      key_segments: keySegments?.range(),
      length: keyLength?.range(),
      partial: partial.range(),
      totals: totals.range(),
    },
    params: { ...params, count },
    constants,
    groups: kind === 'rows' ? Math.ceil(count / device.workgroupOf(kernel)) : count,
  });
  const wide = valueSize % 4 === 0 && valueWidth % 4 === 0 ? 4 : 1;
  const elements = (batch * queries * heads * valueSize) / wide;
  device.dispatch(decodeMerge, {
    bindings: {
      partial: partial.range(),
      totals: totals.range(),
      length: keyLength?.range(),
      y: y.range(),
      lse: lse.range(),
    },
    params: { ...params, count: elements },
    constants: { keySize, valueSize, valueWidth },
    groups: Math.ceil(elements / device.workgroupOf(decodeMerge)),
  });
}

/** float16 as the vectors of words that the kernel unpacks. */
function packed(tensor: Tensor): BoundRange {
  const range = tensor.range();
  return tensor.dtype === 'float16' ? { ...range, dtype: 'uint32' } : range;
}
