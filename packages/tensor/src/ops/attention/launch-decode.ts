import { allocateTensor } from '../../core/define-op.js';
import type { Tensor } from '../../core/tensor.js';
import type { BoundRange } from '../../device/device.js';
import { decodeMerge, decodeRows, decodeTiled, MOST_QUERY, PART } from './decode.wgsl.js';
import { decodeLanes, LANE_ELEMENTS } from './decode-lanes.wgsl.js';
import type { Call } from './launch.js';
import type { Sizes } from './sizes.js';

// Keys of a part on a software adapter: few, so that every lane has some.
const SOFTWARE_PART = 32;
// Workgroups that keep a large GPU busy: the keys are not cut into more parts than that takes.
const FULL = 1056;
// Fewest keys of a part of the kernel for lanes: one turn of its loop.
const SHORTEST_PART = 64;
// Keys that a lane of that kernel asks for at once. Small subgroups are those of software adapters, which take half a
// minute to compile four.
const AHEAD = (subgroupSize: number) => (subgroupSize >= 32 ? 4 : 2);
// Query heads of one key head that a workgroup of that kernel holds in registers.
const MOST_HEADS = 4;

/** How the keys are cut, and by which kernel. */
interface Plan {
  readonly kind: 'rows' | 'tiled' | 'lanes';
  readonly tileHeads: number;
  readonly parts: number;
}

function planOf({ device: { info }, sizes, q, k, v }: Call): Plan {
  const { batch, queries, heads, keys, keySize, group } = sizes;
  if (info.software) return { kind: 'rows', tileHeads: 1, parts: Math.ceil(keys / SOFTWARE_PART) };
  if (fitsLanes(sizes, info.subgroups ? info.subgroupSize : 0) && [q, k, v].every(({ offset }) => offset % 256 === 0)) {
    const tileHeads = [MOST_HEADS, 2].find((n) => group % n === 0) ?? 1;
    const enough = Math.ceil(FULL / (batch * queries * (heads / tileHeads)));
    return { kind: 'lanes', tileHeads, parts: Math.min(Math.ceil(keys / SHORTEST_PART), enough) };
  }
  const tileHeads = [4, 2].find((n) => group % n === 0 && n * keySize <= MOST_QUERY) ?? 1;
  return { kind: 'tiled', tileHeads, parts: Math.ceil(keys / PART) };
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
  const rows = batch * queries * heads;
  const { kind, parts, tileHeads } = planOf(call);
  const partial = allocateTensor(device, { shape: [rows, parts, valueSize], dtype: 'float32' });
  const totals = allocateTensor(device, { shape: [rows, parts, 2], dtype: 'float32' });
  const params = { tq: queries, tk: keys, heads, key_heads: keyHeads, group, parts, unit: 1, scale };
  const constants = { keySize, valueSize, valueWidth };
  const kernel = { rows: decodeRows, tiled: decodeTiled, lanes: decodeLanes }[kind];
  const bound = kind === 'lanes' ? packed : (tensor: Tensor) => tensor.range();
  const count = (rows / tileHeads) * parts;
  device.dispatch(kernel, {
    bindings: {
      q: bound(q),
      k: bound(k),
      v: bound(v),
      segments: segments?.range(),
      key_segments: keySegments?.range(),
      length: keyLength?.range(),
      partial: partial.range(),
      totals: totals.range(),
    },
    params: { ...params, count },
    constants:
      kind === 'lanes'
        ? { size: keySize, tileHeads, ahead: AHEAD(device.info.subgroupSize) }
        : { ...constants, tileHeads },
    groups: kind === 'rows' ? Math.ceil(count / device.workgroupOf(kernel)) : count,
  });
  const wide = valueSize % 4 === 0 && valueWidth % 4 === 0 ? 4 : 1;
  const elements = (rows * valueSize) / wide;
  device.dispatch(decodeMerge, {
    bindings: {
      partial: partial.range(),
      totals: totals.range(),
      length: keyLength?.range(),
      y: y.range(),
      lse: lse.range(),
    },
    params: { ...params, count: elements },
    constants,
    groups: Math.ceil(elements / device.workgroupOf(decodeMerge)),
  });
}

/** float16 as the vectors of words that the kernel unpacks. */
function packed(tensor: Tensor): BoundRange {
  const range = tensor.range();
  return tensor.dtype === 'float16' ? { ...range, dtype: 'uint32' } : range;
}
