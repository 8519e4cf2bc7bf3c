import { allocateTensor, type Device, type Shape, type Tensor } from '@zebra/tensor';
import type { Columns } from '../../../rows.js';
import { CHUNK } from '../gates.wgsl.js';
import type { SsdGradients, SsdOperands } from '../operands.js';
import { edgesBytes, matrixEdgesKernel } from './edges.wgsl.js';
import { forwardBytes, matrixForwardKernel } from './forward.wgsl.js';
import { HEADS, matrixGateGradientKernel, matrixGatesKernel } from './gates.wgsl.js';
import { gradientBytes, matrixGradientKernel } from './gradient.wgsl.js';
import { cutsOf, HALVES, type ScanConstants, THREADS } from './tiles.wgsl.js';

/** Sizes of heads and states that the kernels are written for: others leave subgroups idle or take too many registers. */
const SIZES = [32, 64, 128];

/** Rows and columns of a head's state that a workgroup takes at once: the first that there is memory for. */
const BLOCKS = [
  [64, 64],
  [32, 64],
  [32, 32],
] as const;

/** Lanes of a subgroup that the kernels are written for. */
const LANES = 32;

const chunksOf = (o: SsdOperands) => Math.ceil(o.length / CHUNK);
const float32 = (device: Device, shape: Shape) => allocateTensor(device, { shape, dtype: 'float32' });

/**
 * Whether the scan takes the matrix units: an adapter that has them, and memory enough for a workgroup, float16 operands
 * that can be read as vectors, and heads and states of 32, 64 or 128.
 */
export function takesMatrixUnits(device: Device, o: SsdOperands): boolean {
  const { info } = device;
  const { headDim, stateSize } = o;
  if (info.software || !info.float16 || info.subgroupSize !== LANES) return false;
  if (!info.subgroupMatrix.some(({ m, n, k }) => m === 16 && n === 16 && k === 16)) return false;
  if (!SIZES.includes(headDim) || !SIZES.includes(stateSize)) return false;
  if (device.limits.maxComputeInvocationsPerWorkgroup < THREADS) return false;
  if (![forwardBytes, edgesBytes, gradientBytes].every((bytes) => constantsFor(device, o, bytes))) return false;
  return [o.x, o.b, o.c].every(fitsVectors);
}

/** Whether columns are float16 and can be read as vectors of 8. */
export function fitsVectors({ tensor, offset, stride }: Columns): boolean {
  return tensor.dtype === 'float16' && offset % HALVES === 0 && stride % HALVES === 0;
}

/** The largest blocks of a head's state that a kernel of so many bytes of workgroup memory can take here. */
function constantsFor(
  { info }: Device,
  { headDim, stateSize }: SsdOperands,
  bytes: (constants: ScanConstants) => number,
): ScanConstants | undefined {
  const sizes = { matrixM: 16, matrixN: 16, matrixK: 16, lanes: LANES, headDim, stateSize };
  return BLOCKS.map(([rows, columns]) => ({
    ...sizes,
    rows: Math.min(rows, headDim),
    columns: Math.min(columns, stateSize),
  })).find((constants) => bytes(constants) <= info.workgroupMemory);
}

/**
 * Workgroups below which the walks from chunk to chunk take half as many rows of a head's state each, so that more of
 * them wait for memory and at barriers at once; the price is that each makes the scores of its own. Measured on an H100
 * (132 multiprocessors) with heads of 64: the forward walk is faster whole at 128 and at 256 (0.18 and 0.35 ms against
 * 0.28 and 0.60), the walk over the edges, which makes no scores, in halves (0.22 and 0.45 against 0.24 and 0.51).
 */
const FULL = { forward: 64, edges: 512 };

/** How a walk cuts heads, and the workgroups that it takes for that. */
function walkOf(device: Device, o: SsdOperands, walk: keyof typeof FULL) {
  const given = constantsFor(device, o, walk === 'edges' ? edgesBytes : forwardBytes)!;
  const count = (constants: ScanConstants) => {
    const { parts, blocks } = cutsOf(constants);
    return o.batch * o.heads * parts * (walk === 'edges' ? blocks : 1);
  };
  const halved = given.rows === 64 && count(given) < FULL[walk];
  const constants = halved ? { ...given, rows: 32 } : given;
  return { constants, count: count(constants) };
}

/** Columns of halves, bound as vectors of 8 of them. */
const vectors = ({ tensor }: Columns) => ({ ...tensor.range(), dtype: 'uint32' as const });

/** Where columns begin, from one of a head's on, and their step from token to token. */
function at(name: string, { offset, stride }: Columns, first = 0): Record<string, number> {
  return { [`${name}_at`]: (offset + first) / HALVES, [`${name}_step`]: stride / HALVES };
}

/** Where operands lie, from a row and a column of a head's state on. */
const placesOf = (o: SsdOperands, row = 0, column = 0) => ({
  length: o.length,
  heads: o.heads,
  chunks: chunksOf(o),
  group: o.group,
  ...at('x', o.x, row),
  ...at('b', o.b, column),
  ...at('c', o.c, column),
});

/** The gates of the chunked form, [B, T, H, 4]. */
function launchGates(device: Device, o: SsdOperands): Tensor {
  const gates = float32(device, [o.batch, o.length, o.heads, 4]);
  const count = o.batch * chunksOf(o) * Math.ceil(o.heads / HEADS);
  device.dispatch(matrixGatesKernel, {
    bindings: {
      dt: o.dt.tensor.range(),
      dt_bias: o.dtBias.range(),
      a_log: o.aLog.range(),
      segments: o.segments?.range(),
      gates: gates.range(),
    },
    params: { count, length: o.length, heads: o.heads, chunks: chunksOf(o), offset: o.dt.offset, stride: o.dt.stride },
    constants: { continued: o.continued },
    groups: count,
  });
  return gates;
}

/** y [B, T, H·P], float16, into its columns; `state` [B, H, P, N] is entered with and left in place. */
export function launchMatrixForward(device: Device, o: SsdOperands, y: Columns, state?: Tensor): void {
  const gates = launchGates(device, o);
  const { constants, count } = walkOf(device, o, 'forward');
  device.dispatch(matrixForwardKernel, {
    bindings: {
      x: vectors(o.x),
      b: vectors(o.b),
      c: vectors(o.c),
      gates: gates.range(),
      skip: o.skip.range(),
      state: state?.range(),
      y: vectors(y),
    },
    params: { ...placesOf(o), ...at('y', y), count },
    constants: { ...constants },
    groups: count,
  });
}

/**
 * Gradients of x, B, C (float16) and dt into their columns; the shares of dt_bias, A_log and D of each chunk,
 * [batch·chunk, 3, H]. Recomputes the states.
 */
export function launchMatrixBackward(
  device: Device,
  o: SsdOperands,
  dy: Columns,
  into: SsdGradients,
  initial?: Tensor,
): Tensor {
  const { batch, length, heads, headDim, stateSize } = o;
  const chunks = chunksOf(o);
  const gates = launchGates(device, o);
  const edges = { shape: [batch, heads, chunks, headDim, stateSize], dtype: 'float16' as const };
  const [states, carried] = [allocateTensor(device, edges), allocateTensor(device, edges)];
  const places = { ...placesOf(o), ...at('dy', dy) };
  const shared = {
    x: vectors(o.x),
    b: vectors(o.b),
    c: vectors(o.c),
    dy: vectors(dy),
    gates: gates.range(),
    states: { ...states.range(), dtype: 'uint32' as const },
    carried: { ...carried.range(), dtype: 'uint32' as const },
  };
  const walk = walkOf(device, o, 'edges');
  device.dispatch(matrixEdgesKernel, {
    bindings: { ...shared, initial: initial?.range(), initial_gradient: into.initial?.range() },
    params: { ...places, count: walk.count },
    constants: { ...walk.constants },
    groups: [walk.count, 1, 2],
  });
  const products = float32(device, [batch, length, heads, 4]);
  const through = float32(device, [batch, length, heads]);
  // One tensor may be written through one binding only.
  const apart = (part: Columns) => (part.tensor.storage === into.x.tensor.storage ? undefined : vectors(part));
  const constants = constantsFor(device, o, gradientBytes)!;
  const { rows, columns } = constants;
  const { parts, blocks } = cutsOf(constants);
  const count = (batch * heads * chunks) / o.group;
  for (let part = 0; part < parts; part++) {
    for (let block = 0; block < blocks; block++) {
      const [down, across] = [part * rows, block * columns];
      device.dispatch(matrixGradientKernel, {
        bindings: {
          ...shared,
          skip: o.skip.range(),
          dx: vectors(into.x),
          db: apart(into.b),
          dc: apart(into.c),
          products: products.range(),
          through: through.range(),
        },
        params: {
          ...placesOf(o, down, across),
          ...at('dy', dy, down),
          ...at('dx', into.x, down),
          ...at('db', into.b, across),
          ...at('dc', into.c, across),
          edge_at: (down * stateSize + across) / HALVES,
          row: down,
          column: across,
          count,
        },
        constants: { ...constants },
        groups: count,
      });
    }
  }
  const shares = float32(device, [batch * chunks, 3, heads]);
  const gateGroups = batch * chunks * Math.ceil(heads / HEADS);
  device.dispatch(matrixGateGradientKernel, {
    bindings: {
      products: products.range(),
      through: through.range(),
      gates: gates.range(),
      dt: o.dt.tensor.range(),
      dt_bias: o.dtBias.range(),
      a_log: o.aLog.range(),
      ddt: into.dt.tensor.range(),
      shares: shares.range(),
    },
    params: {
      count: gateGroups,
      length,
      heads,
      chunks,
      offset: o.dt.offset,
      stride: o.dt.stride,
      out_offset: into.dt.offset,
      out_stride: into.dt.stride,
    },
    groups: gateGroups,
  });
  return shares;
}
