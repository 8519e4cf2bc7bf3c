import { allocateTensor } from '../../core/define-op.js';
import type { Tensor } from '../../core/tensor.js';
import type { Device } from '../../device/device.js';
import type { Kernel } from '../../device/kernel.js';
import { MOST_QUERY } from './decode.wgsl.js';
import { launchDecode } from './launch-decode.js';
import { type MaskKind, maskKernel } from './mask.wgsl.js';
import { chooseMatrix, type MatrixPass, type MatrixTiles } from './matrix-choice.js';
import { matrixForward } from './matrix-forward.wgsl.js';
import { matrixKeyGradient, matrixQueryGradient } from './matrix-gradient.wgsl.js';
import { matrixStatistics, statisticsRows } from './matrix-statistics.wgsl.js';
import type { MatrixConstants } from './matrix-tile.wgsl.js';
import { rowsForward, rowsKeyGradient, rowsQueryGradient, statisticsKernel } from './rows.wgsl.js';
import { sharedForward, sharedKeyGradient, sharedQueryGradient } from './shared.wgsl.js';
import type { Sizes } from './sizes.js';
import { TILE, tiledForward, tiledKeyGradient, tiledQueryGradient } from './tiled.wgsl.js';

/** One call as the kernels see it. */
export interface Call {
  readonly device: Device;
  readonly sizes: Sizes;
  readonly scale: number;
  readonly q: Tensor;
  readonly k: Tensor;
  readonly v: Tensor;
  readonly segments: Tensor | undefined;
  readonly keySegments: Tensor | undefined;
  readonly keyLength: Tensor | undefined;
  /** Tiles of the kernels for matrix units to try instead of the chosen ones, for tests and measurements. */
  readonly tiles?: MatrixTiles;
}

/** What masks a call beyond causality, in the buffer that the kernels read. */
interface Mask {
  readonly kind: MaskKind;
  readonly buffer: Tensor | undefined;
  /** Where its parts begin. */
  readonly params: Readonly<
    Record<'length_at' | 'key_segments_at' | 'first_key_at' | 'end_query_at' | 'query_run_at' | 'key_run_at', number>
  >;
}

function maskOf({ device, sizes, segments, keySegments, keyLength }: Call): Mask {
  const { batch, queries, keys } = sizes;
  const none = { length_at: 0, key_segments_at: 0, first_key_at: 0, end_query_at: 0, query_run_at: 0, key_run_at: 0 };
  if (!segments) return { kind: keyLength ? 'length' : 'none', buffer: keyLength, params: none };
  const key_segments_at = batch * queries;
  const first_key_at = key_segments_at + batch * keys;
  const end_query_at = first_key_at + batch * queries;
  const length_at = end_query_at + batch * keys;
  const query_run_at = length_at + 1;
  const key_run_at = query_run_at + batch * queries;
  const params = { key_segments_at, first_key_at, end_query_at, length_at, query_run_at, key_run_at };
  const buffer = allocateTensor(device, { shape: [key_run_at + batch * keys], dtype: 'int32' });
  const count = batch * (queries + keys);
  device.dispatch(maskKernel, {
    bindings: { segments: segments.range(), keys: keySegments?.range(), length: keyLength?.range(), y: buffer.range() },
    params: { count, batch, tq: queries, tk: keys, ...params },
    groups: Math.ceil(count / device.workgroupOf(maskKernel)),
  });
  return { kind: 'segments', buffer, params };
}

interface Launch {
  readonly bindings: Readonly<Record<string, Tensor | undefined>>;
  readonly mask: Mask;
  readonly constants?: Readonly<Record<string, number | boolean | string>>;
  /** Invocations of a linear kernel, or workgroups of a tiled one. */
  readonly count: number;
  readonly tiled?: boolean;
  /** Bindings that are seen as vectors of 8 halves. */
  readonly packed?: readonly string[];
}

function launch(call: Call, kernel: Kernel, { bindings, mask, constants, count, tiled, packed = [] }: Launch): void {
  const { device, sizes } = call;
  const all = {
    keySize: sizes.keySize,
    valueSize: sizes.valueSize,
    valueWidth: sizes.valueWidth,
    mask: mask.kind,
    ...constants,
  };
  const bound = { ...bindings, ...('mask' in kernel.bindings && { mask: mask.buffer }) };
  device.dispatch(kernel, {
    bindings: Object.fromEntries(
      Object.entries(bound).map(([name, tensor]) => {
        const range = tensor?.range();
        return [name, range && packed.includes(name) ? { ...range, dtype: 'uint32' as const } : range];
      }),
    ),
    params: {
      count,
      batch: sizes.batch,
      tq: sizes.queries,
      tk: sizes.keys,
      heads: sizes.heads,
      key_heads: sizes.keyHeads,
      group: sizes.group,
      unit: 1,
      scale: call.scale,
      ...mask.params,
    },
    constants: all,
    groups: tiled ? count : Math.ceil(count / device.workgroupOf(kernel, { constants: all })),
  });
}

/** Which kernels serve a call. */
type Kind = 'rows' | 'shared' | 'tiled';

// Elements of a key and a value up to which unrolled registers of the shared kernels compile in reasonable time.
const MOST_SHARED = 96;
// The same for two rows a lane.
const MOST_PAIRED = 48;
// Elements of a head that the accumulators of the tiled kernels hold.
const MOST_TILED = 128;
// Queries up to which the keys are split.
const MOST_DECODE = 4;

/** The one place that chooses kernels. */
function kindOf({ device: { info }, sizes: { keySize, valueSize } }: Call): Kind {
  if (!info.software) return Math.max(keySize, valueSize) <= MOST_TILED ? 'tiled' : 'rows';
  const lanes = info.subgroupSize;
  return (lanes === 4 || lanes === 8) && keySize + valueSize <= MOST_SHARED ? 'shared' : 'rows';
}

/**
 * Constants of the shared kernels, of `heads` query heads a key head. A lane owns two rows where that compiles in
 * reasonable time: measured, that is nearly twice as fast as one; four gain little and compile for seconds.
 */
function sharedConstants({ device, sizes }: Call, heads: number) {
  const lanes = device.info.subgroupSize;
  const pair = sizes.keySize + sizes.valueSize <= MOST_PAIRED;
  const tileHeads = pair && heads % 2 === 0 ? 2 : 1;
  const tile = pair && tileHeads === 1 ? 2 : 1;
  // Measured: lavapipe (8 lanes) compiles a shuffle by a constant to one instruction, SwiftShader (4) a broadcast.
  return { lanes, broadcast: lanes === 8 ? 'subgroupShuffle' : 'subgroupBroadcast', tile, tileHeads };
}

/** What one unit of a launch (an invocation, or a workgroup where `tiled`) owns. */
interface Tiles {
  readonly constants: Readonly<Record<string, number | string>>;
  readonly rows: number;
  readonly tileHeads: number;
  readonly tiled: boolean;
}

function tilesOf(call: Call, kind: Kind, heads: number): Tiles {
  if (kind === 'rows') return { constants: { tile: 1, tileHeads: 1, step: 1 }, rows: 1, tileHeads: 1, tiled: false };
  if (kind === 'tiled') return { constants: {}, rows: TILE, tileHeads: 1, tiled: true };
  const constants = sharedConstants(call, heads);
  return { constants, rows: constants.lanes * constants.tile, tileHeads: constants.tileHeads, tiled: true };
}

const FORWARD = { rows: rowsForward, shared: sharedForward, tiled: tiledForward };
const GRADIENTS = {
  rows: { query: rowsQueryGradient, key: rowsKeyGradient },
  shared: { query: sharedQueryGradient, key: sharedKeyGradient },
  tiled: { query: tiledQueryGradient, key: tiledKeyGradient },
};

const dtypesOf = ({ q, k, v }: Call) => [q.dtype, k.dtype, v.dtype];

/** Workgroups of a kernel for matrix units: a tile of rows of each batch entry and head. */
function matrixCount({ sizes }: Call, pass: MatrixPass, { rows }: MatrixConstants): number {
  const { batch, queries, heads, keys, keyHeads } = sizes;
  return batch * (pass === 'key' ? keyHeads * Math.ceil(keys / rows) : heads * Math.ceil(queries / rows));
}

const PACKED = ['q', 'k', 'v', 'y', 'g', 'dq', 'dk', 'dv'];

/** Runs a kernel for matrix units. */
function launchMatrix(
  call: Call,
  pass: MatrixPass,
  constants: MatrixConstants,
  bindings: Launch['bindings'],
  mask: Mask,
): void {
  const kernel = { forward: matrixForward, query: matrixQueryGradient, key: matrixKeyGradient }[pass];
  const count = matrixCount(call, pass, constants);
  launch(call, kernel, { bindings, mask, constants: { ...constants }, count, tiled: true, packed: PACKED });
}

/** Fills y and lse. */
export function forward(call: Call, y: Tensor, lse: Tensor): void {
  const { sizes, q, k, v } = call;
  const { batch, queries, heads } = sizes;
  if (queries <= MOST_DECODE && sizes.keys > queries && sizes.keySize <= MOST_QUERY) {
    launchDecode(call, y, lse);
    return;
  }
  const mask = maskOf(call);
  const matrix = chooseMatrix(call.device.info, 'forward', sizes, mask.kind, dtypesOf(call), call.tiles);
  if (matrix) {
    launchMatrix(call, 'forward', matrix, { q, k, v, y, lse }, mask);
    return;
  }
  const kind = kindOf(call);
  const { constants, rows, tileHeads, tiled } = tilesOf(call, kind, sizes.group);
  const count = batch * Math.ceil(queries / rows) * (heads / tileHeads);
  launch(call, FORWARD[kind], { bindings: { q, k, v, y, lse }, mask, constants, count, tiled });
}

/** Gradients of q, k, v where `needs` wants them. */
export function backward(
  call: Call,
  y: Tensor,
  lse: Tensor,
  g: Tensor,
  needs: readonly boolean[],
): (Tensor | undefined)[] {
  const { device, sizes, q, k, v } = call;
  const { batch, queries, heads, keys, keyHeads } = sizes;
  const [dq, dk, dv] = [q, k, v].map((input, i) => (needs[i] ? allocateTensor(device, input) : undefined));
  const kind = kindOf(call);
  const mask = maskOf(call);
  const stats = allocateTensor(device, { shape: [batch, heads, queries, 2], dtype: 'float32' });
  const dtypes = [...dtypesOf(call), g.dtype];
  const byQuery = chooseMatrix(device.info, 'query', sizes, mask.kind, dtypes, call.tiles);
  const byKey = chooseMatrix(device.info, 'key', sizes, mask.kind, dtypes, call.tiles);
  if (byQuery && byKey) {
    launch(call, matrixStatistics, {
      bindings: { y, g, lse, stats },
      mask: { ...mask, kind: 'none' },
      count: Math.ceil((batch * heads * queries) / statisticsRows(sizes.valueSize)),
      tiled: true,
      packed: PACKED,
    });
    if (dq) launchMatrix(call, 'query', byQuery, { q, k, v, g, stats, dq }, mask);
    if (dk || dv) launchMatrix(call, 'key', byKey, { q, k, v, g, stats, dk, dv }, mask);
    return [dq, dk, dv];
  }
  launch(call, statisticsKernel, {
    bindings: { y, g, lse, stats },
    mask: { ...mask, kind: 'none' },
    count: batch * heads * queries,
  });
  const kernels = GRADIENTS[kind];
  if (dq) {
    const { constants, rows, tileHeads, tiled } = tilesOf(call, kind, sizes.group);
    const count = batch * Math.ceil(queries / rows) * (heads / tileHeads);
    launch(call, kernels.query, { bindings: { q, k, v, g, stats, dq }, mask, constants, count, tiled });
  }
  if (dk || dv) {
    const { constants, rows, tiled } = tilesOf(call, kind, 1);
    const count = batch * Math.ceil(keys / rows) * keyHeads;
    launch(call, kernels.key, { bindings: { q, k, v, g, stats, dk, dv }, mask, constants, count, tiled });
  }
  return [dq, dk, dv];
}
