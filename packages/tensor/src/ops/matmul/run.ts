import { allocateTensor } from '../../core/define-op.js';
import { BYTES, type DType } from '../../core/dtype.js';
import type { Tensor } from '../../core/tensor.js';
import type { BoundRange } from '../../device/device.js';
import { launchProject, type ProjectCall, projects } from '../project/launch.js';
import {
  chooseChunk,
  chooseGated,
  chooseKernel,
  FEW_ROWS,
  type MatmulSituation,
  type VectorBinding,
} from './choose.js';
import { matmulGeometry } from './geometry.js';
import { pickFor } from './plans.js';
import { splitSum } from './split-sum.wgsl.js';

/** How a product is written to its output. */
export interface RunOptions {
  readonly transposeA?: boolean;
  readonly transposeB?: boolean;
  /** Add to what the output holds instead of replacing it. */
  readonly accumulate?: boolean;
  /** Factor of the product. */
  readonly alpha?: number;
  /** Added to every row of the output: as long as it. */
  readonly bias?: Tensor | undefined;
  /** Added to the output, of its shape. */
  readonly residual?: Tensor | undefined;
}

/** Matrices inside a tensor: strides, in elements, from one to the next, and along the three letters of the product. */
interface Matrices {
  readonly tensor: Tensor;
  /** Elements before the first matrix of those to be used. */
  readonly skip: number;
  readonly batch: number;
  readonly rows: number;
  readonly columns: number;
}

type WriteOptions = Omit<RunOptions, 'transposeA' | 'transposeB'>;

interface Product {
  readonly m: number;
  readonly n: number;
  readonly k: number;
  readonly batch: number;
  /** [m, k] */
  readonly a: Matrices;
  /** [k, n] */
  readonly b: Matrices;
  /** [m, n] */
  readonly c: Matrices;
  /** The product is the transposed one of what was asked for: what is the output's row is a column here. */
  readonly turned?: boolean;
}

/**
 * Writes a · b, or adds it, into `out`, whose matrices are as many as the operands' batch, or one: that then receives
 * the sum over the batch (and neither bias nor residual). Allocates in the open scope.
 */
export function runMatmul(operation: string, out: Tensor, a: Tensor, b: Tensor, options: RunOptions): void {
  const { transposeA = false, transposeB = false } = options;
  const geometry = matmulGeometry(operation, a.shape, b.shape, transposeA, transposeB);
  const { m, n, k, batch, batchA, batchB } = geometry;
  const matrices = (tensor: Tensor, transposed: boolean, rows: number, columns: number, count: number): Matrices => ({
    tensor,
    skip: 0,
    batch: count === 1 ? 0 : rows * columns,
    rows: transposed ? 1 : columns,
    columns: transposed ? rows : 1,
  });
  const product: Product = {
    m,
    n,
    k,
    batch,
    a: matrices(a, transposeA, m, k, batchA),
    b: matrices(b, transposeB, k, n, batchB),
    c: matrices(out, false, m, n, batch),
  };
  const contiguous = transposeA && !transposeB && batchA === batchB;
  if (out.size === batch * m * n) launch(foldRows(product, batchB, transposeA), options);
  else if (contiguous) launch({ ...product, k: k * batch, batch: 1 }, options);
  else sumOverBatch(product, options);
}

/**
 * Writes a · bᵀ, of a [m, k] and b [n, k], into the n columns from `start` on of `out` [m, width]. Allocates in the open
 * scope.
 */
export function runMatmulColumns(out: Tensor, start: number, a: Tensor, b: Tensor): void {
  const [m, k] = a.shape as [number, number];
  const n = b.shape[0]!;
  launch(
    {
      m,
      n,
      k,
      batch: 1,
      a: { tensor: a, skip: 0, batch: 0, rows: k, columns: 1 },
      b: { tensor: b, skip: 0, batch: 0, rows: 1, columns: k },
      c: { tensor: out, skip: start, batch: 0, rows: out.shape[1]!, columns: 1 },
    },
    {},
  );
}

/**
 * Writes silu(a · gateᵀ) · (a · upᵀ), of a [m, k] and two weights [n, k], into `out` [m, n], if one kernel for matrix
 * units can: for 17 to 64 rows, where everything lies in whole vectors.
 *
 * @returns whether it did
 */
export function runGatedMatmul(out: Tensor, a: Tensor, gate: Tensor, up: Tensor): boolean {
  const { device } = out;
  const [m, k] = a.shape as [number, number];
  const n = gate.shape[0]!;
  const along = { skip: 0, batch: 0, rows: k, columns: 1 };
  const across = { skip: 0, batch: 0, rows: 1, columns: k };
  const operands = {
    a: { tensor: a, ...along },
    b: { tensor: gate, ...across },
    c: { tensor: out, ...along, rows: n },
  };
  const [boundA, boundB, boundUp, boundC] = [a, gate, up, out].map((tensor) => bind({ tensor, skip: 0 })) as [
    Bound,
    Bound,
    Bound,
    Bound,
  ];
  const situation: MatmulSituation = {
    m,
    n,
    k,
    batch: 1,
    a: { ...situate(operands.a, boundA, [m, k]), alongK: true },
    b: { ...situate(operands.b, boundB, [k, n]), alongK: true },
    c: { ...situate(operands.c, boundC, [m, n]), alongN: true },
  };
  const choice = chooseGated(device.info, situation);
  if (!choice || boundUp.start !== boundB.start || up.dtype !== gate.dtype) return false;
  const { kernel, constants, tile, bound = {} } = choice;
  const tiles = Math.ceil(m / tile[0]) * Math.ceil(n / tile[1]);
  device.dispatch(kernel, {
    bindings: {
      a: seenAs(boundA.range, bound.a),
      b: seenAs(boundB.range, bound.b),
      b2: seenAs(boundUp.range, bound.b),
      c: boundC.range,
    },
    params: {
      m,
      n,
      k,
      splits: 1,
      chunk: k,
      tiles,
      ...strides('a', ['m', 'k'], operands.a, boundA.start, bound.a),
      ...strides('b', ['k', 'n'], operands.b, boundB.start, bound.b),
      ...strides('c', ['m', 'n'], operands.c, boundC.start, bound.c),
      ...starts({}),
      bias_m: 0,
      bias_n: 0,
      alpha: 1,
    },
    constants: { ...constants, accumulate: false },
    groups: tiles,
  });
  return true;
}

/** One matrix b for a batch of a: the batch is only more rows. */
function foldRows(product: Product, batchB: number, transposeA: boolean): Product {
  const folds = batchB === 1 && !transposeA && product.batch > 1;
  return folds ? { ...product, m: product.m * product.batch, batch: 1 } : product;
}

/** The sum over a batch that memory order does not allow to fold into k: matrix after matrix. */
function sumOverBatch(product: Product, options: RunOptions): void {
  const { a, b, c } = product;
  const out = c.tensor;
  // Sums in float16 would be rounded at every step.
  const direct = out.dtype === 'float32';
  const total = direct ? out : allocateTensor(out.device, { shape: out.shape, dtype: 'float32' });
  const alpha = direct ? options.alpha : 1;
  for (let z = 0; z < product.batch; z++) {
    const step = {
      ...product,
      batch: 1,
      a: { ...a, skip: z * a.batch },
      b: { ...b, skip: z * b.batch },
      c: { ...c, tensor: total },
    };
    launch(step, { alpha, accumulate: z > 0 || (direct && options.accumulate === true) });
  }
  if (!direct)
    addPieces(total, bind(c), {
      ...options,
      count: out.size,
      splits: 1,
      matrix: out.size,
      line: out.size,
      pitch: out.size,
    });
}

function launch(product: Product, options: WriteOptions): void {
  // Few columns and many rows: the transposed product is the same with few rows.
  const { m, n, a, b, c } = product;
  const turned = n <= FEW_ROWS && m > n;
  launchRows(turned ? { ...product, m: n, n: m, a: turn(b), b: turn(a), c: turn(c), turned } : product, options);
}

const turn = (matrices: Matrices): Matrices => ({ ...matrices, rows: matrices.columns, columns: matrices.rows });

/** The product as a linear layer's, x · weightᵀ, where it lies in memory like one. */
function projectionOf({ m, n, k, batch, a, b, c }: Product, residual?: Tensor): ProjectCall | undefined {
  const lines = (matrices: Matrices, length: number, across: boolean): boolean =>
    matrices.skip === 0 &&
    (across ? [matrices.rows, matrices.columns] : [matrices.columns, matrices.rows]).join() === `${length},1`;
  if (batch !== 1 || !lines(a, k, true) || !lines(b, k, false) || !lines(c, n, true)) return undefined;
  const [x, weights, y] = [a.tensor, [b.tensor], c.tensor];
  return { x, weights, counts: [n], residual, y, rows: m, width: k, start: 0, size: k, eps: 0, gated: false };
}

function launchRows(product: Product, options: WriteOptions): void {
  const { accumulate = false, alpha = 1 } = options;
  const { m, n, k, batch, a, b, c, turned = false } = product;
  const { device } = c.tensor;
  const plain = !accumulate && alpha === 1 && !options.bias;
  const projection = plain ? projectionOf(product, options.residual) : undefined;
  if (projection && projects(projection)) {
    launchProject(projection);
    return;
  }
  const [boundA, boundB, boundC] = [bind(a), bind(b), bind(c)];
  const added = addends(options);
  const situation: MatmulSituation = {
    m,
    n,
    k,
    batch,
    a: { ...situate(a, boundA, [m, k]), alongK: a.columns === 1 },
    b: { ...situate(b, boundB, [k, n]), alongK: b.rows === 1 },
    c: { ...situate(c, boundC, [m, n], added), alongN: c.columns === 1 },
  };
  const choice = chooseKernel(device.info, situation, pickFor(device, situation));
  const { kernel, constants, tile, tilesOfGroup, bound = {}, kUnit = 1 } = choice;
  const tiles = batch * Math.ceil(m / tile[0]) * Math.ceil(n / tile[1]);
  const chunk = chooseChunk(k, Math.ceil(tiles / tilesOfGroup), choice);
  const splits = Math.ceil(k / chunk);
  const finishes = splits === 1 && Object.keys(added).every((name) => name in kernel.bindings);
  // Pieces lie as the output does, but without gaps between its lines.
  const dense = c.columns === 1 ? { rows: n, columns: 1 } : { rows: 1, columns: m };
  const partial = finishes ? undefined : allocateTensor(device, { shape: [batch, splits, m, n], dtype: 'float32' });
  device.dispatch(kernel, {
    bindings: {
      a: seenAs(boundA.range, bound.a),
      b: seenAs(boundB.range, bound.b),
      c: seenAs(partial ? partial.range() : boundC.range, bound.c),
      ...(finishes && ranges(added)),
    },
    params: {
      m,
      n,
      k: k / kUnit,
      splits,
      chunk: chunk / kUnit,
      tiles: tiles * splits,
      ...strides('a', ['m', 'k'], a, boundA.start, bound.a),
      ...strides('b', ['k', 'n'], b, boundB.start, bound.b),
      ...strides('c', ['m', 'n'], { ...(partial ? dense : c), batch: m * n }, partial ? 0 : boundC.start, bound.c),
      ...starts(added, bound.c?.elements),
      bias_m: turned ? 1 : 0,
      bias_n: turned ? 0 : 1,
      alpha: partial ? 1 : alpha,
    },
    constants: { ...constants, accumulate: accumulate && !partial },
    groups: Math.ceil((tiles * splits) / tilesOfGroup),
  });
  if (!partial) return;
  const matrix = m * n;
  const [line, pitch] = turned ? [m, c.columns] : [n, c.rows];
  const lines = line === pitch ? { line: matrix, pitch: matrix } : { line, pitch };
  addPieces(partial, boundC, { ...options, count: batch * matrix, splits, matrix, ...lines });
}

interface Pieces extends WriteOptions {
  readonly count: number;
  readonly splits: number;
  readonly matrix: number;
  /** Elements of a line of the output, and from one to the next. */
  readonly line: number;
  readonly pitch: number;
}

function addPieces(partial: Tensor, c: Bound, pieces: Pieces): void {
  const { accumulate = false, alpha = 1, count, splits, matrix, line, pitch } = pieces;
  const added = addends(pieces);
  const columns = pieces.bias?.size ?? matrix;
  const lengths = [matrix, columns, line, pitch, c.start, ...Object.values(added).map(({ start }) => start)];
  const elements = lengths.every((length) => length % 4 === 0) ? 4 : 1;
  partial.device.dispatch(splitSum, {
    bindings: { partial: partial.range(), c: c.range, ...ranges(added) },
    params: {
      count: count / elements,
      splits,
      matrix: matrix / elements,
      columns: columns / elements,
      line: line / elements,
      pitch: pitch / elements,
      c_start: c.start / elements,
      ...starts(added, elements),
      alpha,
    },
    constants: { accumulate, vector: elements === 4 },
    groups: Math.ceil(count / elements / partial.device.workgroupOf(splitSum)),
  });
}

/** What is added to a product, where there is any. */
type Addends = Partial<Record<'bias' | 'residual', Bound>>;

function addends({ bias, residual }: WriteOptions): Addends {
  return {
    ...(bias && { bias: bind({ tensor: bias, skip: 0 }) }),
    ...(residual && { residual: bind({ tensor: residual, skip: 0 }) }),
  };
}

const ranges = (added: Addends): Record<string, BoundRange> =>
  Object.fromEntries(Object.entries(added).map(([name, { range }]) => [name, range]));

const starts = ({ bias, residual }: Addends, elements = 1): Record<'bias_start' | 'residual_start', number> => ({
  bias_start: (bias?.start ?? 0) / elements,
  residual_start: (residual?.start ?? 0) / elements,
});

/** Offsets of bindings must be multiples of this in WebGPU: the kernel skips the elements in between. */
const ALIGNMENT = 256;

interface Bound {
  readonly range: BoundRange;
  /** Elements from the start of the range to the first matrix. */
  readonly start: number;
}

function bind({ tensor, skip }: Pick<Matrices, 'tensor' | 'skip'>): Bound {
  const whole = tensor.range();
  const before = whole.offset % ALIGNMENT;
  const range = { ...whole, offset: whole.offset - before, size: whole.size + before };
  return { range: { ...range, size: Math.ceil(range.size / 4) * 4 }, start: before / BYTES[tensor.dtype] + skip };
}

/** dtype of matrices, and the longest vector that fits their lines, their strides, their start and what is added. */
function situate(
  { tensor, batch, rows, columns }: Matrices,
  { start }: Bound,
  [down, across]: readonly [number, number],
  added: Addends = {},
): { readonly dtype: DType; readonly aligned: number } {
  const others = Object.values(added).map((other) => other.start);
  const lengths = [columns === 1 ? across : down, columns === 1 ? rows : columns, batch, start, ...others];
  const aligned = [8, 4, 2].find((count) => lengths.every((length) => length % count === 0)) ?? 1;
  return { dtype: tensor.dtype, aligned };
}

/** A range as vectors of another dtype. */
function seenAs(range: BoundRange, binding: VectorBinding | undefined): BoundRange {
  return binding?.dtype ? { ...range, dtype: binding.dtype } : range;
}

/** Parameters of one matrix of the product, counted in the units of its binding. */
function strides(
  name: 'a' | 'b' | 'c',
  [down, across]: readonly [string, string],
  { batch, rows, columns }: Pick<Matrices, 'batch' | 'rows' | 'columns'>,
  start: number,
  { elements }: VectorBinding = { elements: 1 },
): Record<string, number> {
  // Along a line neighbours stay neighbours; everything else is a multiple of the vector.
  const count = (stride: number): number => (stride === 1 ? 1 : stride / elements);
  return {
    [`${name}_start`]: start / elements,
    [`${name}_batch`]: batch / elements,
    [`${name}_${down}`]: count(rows),
    [`${name}_${across}`]: count(columns),
  };
}
