import { allocateTensor } from '../../core/define-op.js';
import { BYTES } from '../../core/dtype.js';
import type { Tensor } from '../../core/tensor.js';
import type { BoundRange } from '../../device/device.js';
import { chooseChunk, chooseKernel, FEW_ROWS, type MatmulSituation } from './choose.js';
import { matmulGeometry } from './geometry.js';
import { splitSum } from './split-sum.wgsl.js';

/** How a product is written to its output. */
export interface RunOptions {
  readonly transposeA?: boolean;
  readonly transposeB?: boolean;
  /** Add to what the output holds instead of replacing it. */
  readonly accumulate?: boolean;
  /** Factor of the product. */
  readonly alpha?: number;
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

type WriteOptions = Pick<RunOptions, 'accumulate' | 'alpha'>;

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
}

/**
 * Writes a · b, or adds it, into `out`, whose matrices are as many as the operands' batch, or one: that then receives
 * the sum over the batch. Allocates in the open scope.
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
  if (!direct) addPieces(total, bind(c), { ...options, count: out.size, splits: 1, matrix: out.size });
}

function launch(product: Product, options: WriteOptions): void {
  // Few columns and many rows: the transposed product is the same with few rows.
  const { m, n, a, b, c } = product;
  const turned = n <= FEW_ROWS && m > n;
  launchRows(turned ? { ...product, m: n, n: m, a: turn(b), b: turn(a), c: turn(c) } : product, options);
}

const turn = (matrices: Matrices): Matrices => ({ ...matrices, rows: matrices.columns, columns: matrices.rows });

function launchRows(product: Product, { accumulate = false, alpha = 1 }: WriteOptions): void {
  const { m, n, k, batch, a, b, c } = product;
  const { device } = c.tensor;
  const [boundA, boundB, boundC] = [bind(a), bind(b), bind(c)];
  const bAlongK = b.rows === 1;
  const fours = [k, a.rows, a.batch, b.columns, b.batch, boundA.start, boundB.start];
  const vectors = a.columns === 1 && bAlongK && fours.every((count) => count % 4 === 0);
  const situation: MatmulSituation = { m, n, k, batch, bAlongK, vectors };
  const choice = chooseKernel(device.info, situation);
  const { kernel, constants, tile, tilesOfGroup } = choice;
  const tiles = batch * Math.ceil(m / tile[0]) * Math.ceil(n / tile[1]);
  const chunk = chooseChunk(k, Math.ceil(tiles / tilesOfGroup), choice);
  const splits = Math.ceil(k / chunk);
  const width = constants['vector'] === true ? 4 : 1;
  const partial = splits > 1 ? allocateTensor(device, { shape: [batch, splits, m, n], dtype: 'float32' }) : undefined;
  device.dispatch(kernel, {
    bindings: { a: boundA.range, b: boundB.range, c: partial ? partial.range() : boundC.range },
    params: {
      m,
      n,
      k: k / width,
      splits,
      chunk: chunk / width,
      tiles: tiles * splits,
      a_start: boundA.start / width,
      a_batch: a.batch / width,
      a_m: a.rows / width,
      a_k: a.columns,
      b_start: boundB.start / width,
      b_batch: b.batch / width,
      b_k: b.rows,
      b_n: b.columns / width,
      c_start: partial ? 0 : boundC.start,
      c_batch: m * n,
      c_m: c.rows,
      c_n: c.columns,
      alpha: partial ? 1 : alpha,
    },
    constants: { ...constants, accumulate: accumulate && !partial },
    groups: Math.ceil((tiles * splits) / tilesOfGroup),
  });
  if (partial) addPieces(partial, boundC, { count: batch * m * n, splits, matrix: m * n, alpha, accumulate });
}

interface Pieces extends WriteOptions {
  readonly count: number;
  readonly splits: number;
  readonly matrix: number;
}

function addPieces(partial: Tensor, c: Bound, { accumulate = false, alpha = 1, count, splits, matrix }: Pieces): void {
  partial.device.dispatch(splitSum, {
    bindings: { partial: partial.range(), c: c.range },
    params: { count, splits, matrix, c_start: c.start, alpha },
    constants: { accumulate },
    groups: Math.ceil(count / partial.device.workgroupOf(splitSum)),
  });
}

/** Offsets of bindings must be multiples of this in WebGPU: the kernel skips the elements in between. */
const ALIGNMENT = 256;

interface Bound {
  readonly range: BoundRange;
  /** Elements from the start of the range to the first matrix. */
  readonly start: number;
}

function bind({ tensor, skip }: Matrices): Bound {
  const whole = tensor.range();
  const before = whole.offset % ALIGNMENT;
  const range = { ...whole, offset: whole.offset - before, size: whole.size + before };
  return { range: { ...range, size: Math.ceil(range.size / 4) * 4 }, start: before / BYTES[tensor.dtype] + skip };
}
