import { allocateTensor, type Device, type Shape, sum, type Tensor } from '@zebra/tensor';
import type { Columns } from '../../rows.js';
import { chunkOutputKernel, chunkScanKernel, chunkStateKernel, TILE } from './chunked.wgsl.js';
import { CHUNK, gatesKernel } from './gates.wgsl.js';
import {
  edgeProductKernel,
  foldHeadsKernel,
  gateGradientKernel,
  splitSharesKernel,
  tokenProductKernel,
} from './gradient.wgsl.js';
import { fitsVectors, launchMatrixBackward, launchMatrixForward, takesMatrixUnits } from './matrix/launch.js';
import type { SsdGradients, SsdOperands } from './operands.js';
import { recurrentKernel } from './recurrent.wgsl.js';
import { stepKernel } from './step.wgsl.js';

/** One operand of a scan: `group` heads share its columns. */
interface Operand extends Columns {
  readonly group: number;
}

interface ScanOptions {
  readonly u: Operand;
  readonly v: Operand;
  readonly r: Operand;
  readonly y: Columns;
  /** Sizes of u's and v's heads. */
  readonly rows: number;
  readonly cols: number;
  readonly reverse: boolean;
  /** Multiply u by δ. */
  readonly scaled: boolean;
  /** Leave each token's own input out of its output. */
  readonly exclusive?: boolean;
  /** D, added times u. */
  readonly skip?: Tensor;
  /** Entered with and left in place; `transposed` when it is stored [cols, rows]. */
  readonly state?: Tensor;
  readonly transposed?: boolean;
  /** Takes the state at each chunk's near edge, [B, H, chunks, rows, cols]. */
  readonly edges?: Tensor;
}

const float32 = (device: Device, shape: Shape) => allocateTensor(device, { shape, dtype: 'float32' });
const chunksOf = (o: SsdOperands) => Math.ceil(o.length / CHUNK);
const groupsFor = (device: Device, kernel: Parameters<Device['workgroupOf']>[0], count: number) =>
  Math.ceil(count / device.workgroupOf(kernel));

/** δ, decays and cuts of every token and head: [B, T, H, 4]. */
function launchGates(device: Device, o: SsdOperands): Tensor {
  const gates = float32(device, [o.batch, o.length, o.heads, 4]);
  const count = o.batch * chunksOf(o) * o.heads;
  device.dispatch(gatesKernel, {
    bindings: {
      dt: o.dt.tensor.range(),
      dt_bias: o.dtBias.range(),
      a_log: o.aLog.range(),
      segments: o.segments?.range(),
      gates: gates.range(),
    },
    params: { count, length: o.length, heads: o.heads, chunks: chunksOf(o), offset: o.dt.offset, stride: o.dt.stride },
    constants: { continued: o.continued, chunked: !device.info.software },
    groups: groupsFor(device, gatesKernel, count),
  });
  return gates;
}

/**
 * The one scan that forward and gradient are made of. With w_t the decay of token t and k_t = δ_t (or 1):
 * forward S_t = w_t·S_{t−1} + k_t·u_t ⊗ v_t, y_t = S_t·r_t; in reverse G_t = u_t ⊗ v_t + w_{t+1}·G_{t+1}, y_t = G_t·r_t.
 * Every operand's head may be shared by a group. The duality: y, dC, dx and dB are this scan with x, B, C and dy in
 * turn as u, v and r.
 */
function launchScan(device: Device, o: SsdOperands, gates: Tensor, s: ScanOptions): void {
  const { rows, cols } = s;
  const chunks = chunksOf(o);
  const base = {
    length: o.length,
    heads: o.heads,
    chunks,
    rows,
    cols,
    u_offset: s.u.offset,
    u_stride: s.u.stride,
    u_group: s.u.group,
    v_offset: s.v.offset,
    v_stride: s.v.stride,
    v_group: s.v.group,
    r_offset: s.r.offset,
    r_stride: s.r.stride,
    r_group: s.r.group,
    y_offset: s.y.offset,
    y_stride: s.y.stride,
    state_row: s.transposed ? 1 : cols,
    state_column: s.transposed ? rows : 1,
    reverse: Number(s.reverse),
    scaled: Number(s.scaled),
    exclusive: Number(s.exclusive ?? false),
    skips: Number(s.skip !== undefined),
  };
  const [u, v, r, y] = [s.u, s.v, s.r, s.y].map((operand) => operand.tensor.range());
  const shared = { gates: gates.range(), skip: (s.skip ?? o.skip).range() };
  if (device.info.software) {
    const count = o.batch * o.heads * rows;
    const vector = [cols, s.v.offset, s.v.stride, s.r.offset, s.r.stride].every((value) => value % 4 === 0);
    device.dispatch(recurrentKernel, {
      bindings: { u, v, r, ...shared, state: s.state?.range(), edges: s.edges?.range(), y },
      params: { ...base, count },
      constants: { vector },
      groups: groupsFor(device, recurrentKernel, count),
    });
    return;
  }
  const edges = s.edges ?? float32(device, [o.batch, o.heads, chunks, rows, cols]);
  const tiles = (size: number) => Math.ceil(size / TILE);
  const chunkCount = o.batch * o.heads * chunks;
  const stateCount = chunkCount * tiles(rows) * tiles(cols);
  device.dispatch(chunkStateKernel, {
    bindings: { u, v, gates: shared.gates, edges: edges.range() },
    params: { ...base, count: stateCount },
    groups: stateCount,
  });
  const elements = o.batch * o.heads * rows * cols;
  device.dispatch(chunkScanKernel, {
    bindings: { gates: shared.gates, state: s.state?.range(), edges: edges.range() },
    params: { ...base, count: elements },
    groups: groupsFor(device, chunkScanKernel, elements),
  });
  device.dispatch(chunkOutputKernel, {
    bindings: { u, v, r, ...shared, edges: edges.range(), y },
    params: { ...base, count: chunkCount * tiles(rows) },
    groups: chunkCount * tiles(rows),
  });
}

const own = (c: Columns): Operand => ({ ...c, group: 1 });
const grouped = (c: Columns, o: SsdOperands): Operand => ({ ...c, group: o.group });

/**
 * dtype in which the gradients of x, B, C and y are best kept between kernels: that of the operands on the matrix units,
 * where the scan takes those.
 */
export function gradientDtype(device: Device, o: SsdOperands): 'float16' | 'float32' {
  return takesMatrixUnits(device, o) ? 'float16' : 'float32';
}

/** y [B, T, H·P] into its columns; `state` [B, H, P, N] is entered with and left in place. */
export function launchForward(device: Device, o: SsdOperands, y: Columns, state?: Tensor): void {
  if (takesMatrixUnits(device, o) && fitsVectors(y)) {
    launchMatrixForward(device, o, y, state);
    return;
  }
  const gates = launchGates(device, o);
  launchScan(device, o, gates, {
    u: grouped(o.x, o),
    v: grouped(o.b, o),
    r: own(o.c),
    y,
    rows: o.headDim,
    cols: o.stateSize,
    reverse: false,
    scaled: true,
    skip: o.skip,
    ...(state && { state }),
  });
}

/**
 * Gradients of x, B, C and dt into their columns, and of dt_bias, A_log and D as new tensors. Recomputes the states.
 *
 * @param dy gradient of the forward's output, contiguous [B, T, H·P]; the matrix units take float16 throughout
 */
export function launchBackward(
  device: Device,
  o: SsdOperands,
  dy: Tensor,
  into: SsdGradients,
  initial?: Tensor,
): { dtBias: Tensor; aLog: Tensor; skip: Tensor } {
  const { batch, length, heads, headDim, stateSize } = o;
  const inner = heads * headDim;
  const dyColumns: Operand = { tensor: dy, offset: 0, stride: inner, group: 1 };
  if (takesMatrixUnits(device, o) && [dyColumns, into.x, into.b, into.c].every(fitsVectors)) {
    return splitShares(device, o, launchMatrixBackward(device, o, dyColumns, into, initial));
  }
  const chunks = chunksOf(o);
  const gates = launchGates(device, o);
  const edgeShape = [batch, heads, chunks, stateSize, headDim];
  const stateEdges = float32(device, edgeShape);
  const gradientEdges = float32(device, edgeShape);
  let state: Tensor | undefined;
  if (initial) {
    state = float32(device, initial.shape);
    device.copy({ ...initial.range(), size: initial.byteLength }, { ...state.range(), size: initial.byteLength });
  }
  // dC_t = Sᵀ_t·dy_t: the forward's recurrence with the state transposed; what the token itself adds comes later.
  launchScan(device, o, gates, {
    u: grouped(o.b, o),
    v: grouped(o.x, o),
    r: dyColumns,
    y: into.c,
    rows: stateSize,
    cols: headDim,
    reverse: false,
    scaled: true,
    exclusive: true,
    edges: stateEdges,
    ...(state && { state, transposed: true }),
  });
  const gb = float32(device, [batch, length, heads, headDim]);
  launchScan(device, o, gates, {
    u: dyColumns,
    v: own(o.c),
    r: grouped(o.b, o),
    y: { tensor: gb, offset: 0, stride: inner },
    rows: headDim,
    cols: stateSize,
    reverse: true,
    scaled: false,
    exclusive: true,
    ...(into.initial && { state: into.initial }),
  });
  const gx = float32(device, [batch, length, heads, stateSize]);
  launchScan(device, o, gates, {
    u: own(o.c),
    v: dyColumns,
    r: grouped(o.x, o),
    y: { tensor: gx, offset: 0, stride: heads * stateSize },
    rows: stateSize,
    cols: headDim,
    reverse: true,
    scaled: false,
    edges: gradientEdges,
  });
  const products = tokenProducts(device, o, gb, gates, dy, into.c);
  foldHeads(device, o, gb, gates, headDim, into.x, { dy, products });
  foldHeads(device, o, gx, gates, stateSize, into.b);
  return gateGradients(device, o, { products, gates, stateEdges, gradientEdges }, into.dt);
}

function foldHeads(
  device: Device,
  o: SsdOperands,
  g: Tensor,
  gates: Tensor,
  rows: number,
  into: Columns,
  own?: { readonly dy: Tensor; readonly products: Tensor },
): void {
  const count = (o.batch * o.length * o.heads * rows) / o.group;
  device.dispatch(foldHeadsKernel, {
    bindings: {
      g: g.range(),
      gates: gates.range(),
      products: own?.products.range(),
      dy: own?.dy.range(),
      skip: own && o.skip.range(),
      y: into.tensor.range(),
    },
    params: { count, heads: o.heads, rows, group: o.group, offset: into.offset, stride: into.stride },
    groups: groupsFor(device, foldHeadsKernel, count),
  });
}

function tokenProducts(device: Device, o: SsdOperands, gb: Tensor, gates: Tensor, dy: Tensor, dc: Columns): Tensor {
  const products = float32(device, [o.batch, o.length, o.heads, 4]);
  const count = o.batch * o.length * o.heads;
  device.dispatch(tokenProductKernel, {
    bindings: {
      x: o.x.tensor.range(),
      b: o.b.tensor.range(),
      c: o.c.tensor.range(),
      gb: gb.range(),
      dy: dy.range(),
      gates: gates.range(),
      dc: dc.tensor.range(),
      out: products.range(),
    },
    params: {
      count,
      heads: o.heads,
      rows: o.headDim,
      cols: o.stateSize,
      group: o.group,
      x_offset: o.x.offset,
      x_stride: o.x.stride,
      b_offset: o.b.offset,
      b_stride: o.b.stride,
      c_offset: o.c.offset,
      c_stride: o.c.stride,
      dc_offset: dc.offset,
      dc_stride: dc.stride,
    },
    groups: groupsFor(device, tokenProductKernel, count),
  });
  return products;
}

interface GateTerms {
  readonly products: Tensor;
  readonly gates: Tensor;
  readonly stateEdges: Tensor;
  readonly gradientEdges: Tensor;
}

function gateGradients(device: Device, o: SsdOperands, terms: GateTerms, into: Columns) {
  const { batch, length, heads, headDim } = o;
  const chunks = chunksOf(o);
  const edge = float32(device, [batch, heads, chunks]);
  device.dispatch(edgeProductKernel, {
    bindings: { forward: terms.stateEdges.range(), reverse: terms.gradientEdges.range(), y: edge.range() },
    params: { count: edge.size, chunks, size: headDim * o.stateSize },
    groups: device.info.software ? groupsFor(device, edgeProductKernel, edge.size) : edge.size,
  });
  const shares = float32(device, [batch * chunks, 3, heads]);
  const count = batch * chunks * heads;
  device.dispatch(gateGradientKernel, {
    bindings: {
      products: terms.products.range(),
      edge: edge.range(),
      gates: terms.gates.range(),
      dt: o.dt.tensor.range(),
      dt_bias: o.dtBias.range(),
      a_log: o.aLog.range(),
      ddt: into.tensor.range(),
      shares: shares.range(),
    },
    params: {
      count,
      length,
      heads,
      chunks,
      offset: o.dt.offset,
      stride: o.dt.stride,
      out_offset: into.offset,
      out_stride: into.stride,
    },
    groups: groupsFor(device, gateGradientKernel, count),
  });
  return splitShares(device, o, shares);
}

/** Sums the chunks' shares [chunk, 3, H] into the gradients of dt_bias, A_log and D. */
function splitShares(device: Device, o: SsdOperands, shares: Tensor) {
  const totals = sum(shares, { axes: [0] });
  const dtBias = allocateTensor(device, o.dtBias);
  const aLog = allocateTensor(device, o.aLog);
  const skip = allocateTensor(device, o.skip);
  device.dispatch(splitSharesKernel, {
    bindings: { totals: totals.range(), dt_bias: dtBias.range(), a_log: aLog.range(), skip: skip.range() },
    params: { count: o.heads },
    groups: groupsFor(device, splitSharesKernel, o.heads),
  });
  return { dtBias, aLog, skip };
}

/** One token: `state` in place, y [B, 1, H·P]. x, B and C must lie in one tensor with one stride. */
export function launchStep(device: Device, o: SsdOperands, y: Tensor, state: Tensor): void {
  const count = o.batch * o.heads * o.headDim;
  device.dispatch(stepKernel, {
    bindings: {
      xbc: o.x.tensor.range(),
      dt: o.dt.tensor.range(),
      dt_bias: o.dtBias.range(),
      a_log: o.aLog.range(),
      skip: o.skip.range(),
      segments: o.segments?.range(),
      state: state.range(),
      y: y.range(),
    },
    params: {
      count,
      heads: o.heads,
      rows: o.headDim,
      cols: o.stateSize,
      group: o.group,
      x_offset: o.x.offset,
      b_offset: o.b.offset,
      c_offset: o.c.offset,
      stride: o.x.stride,
      dt_offset: o.dt.offset,
      dt_stride: o.dt.stride,
    },
    groups: groupsFor(device, stepKernel, count),
  });
}
