import { allocateTensor } from '../../core/define-op.js';
import { BYTES } from '../../core/dtype.js';
import type { TensorSpec } from '../../core/shape.js';
import type { Tensor } from '../../core/tensor.js';
import type { Device } from '../../device/device.js';
import { ZebraError } from '../../errors.js';
import { cast } from '../cast/index.js';
import { matmulInto } from '../matmul/index.js';

/** A run of rows. */
export interface Chunk {
  readonly first: number;
  readonly count: number;
}

/**
 * Bytes for one chunk of logits and their gradient. A CPU wants them in its cache. On a GPU every chunk reads and
 * writes the gradient of the whole head in float32, so chunks must be long enough for the products to outweigh that.
 */
const CHUNK_BYTES = { software: 4 * 2 ** 20, hardware: 512 * 2 ** 20 };

/** Chunks start at multiples of 64 rows: 256 bytes for rows of any length, where WebGPU lets a binding begin. */
const CHUNK_STEP = 64;

/** Long chunks are multiples of this, so that tiles of 128 rows fit them and two pieces of them. */
const LONG_STEP = 256;

/** What the size of a chunk depends on. */
export interface ChunkOptions {
  readonly rows: number;
  /** V. */
  readonly columns: number;
  /** Models whose logits are in memory at a time: 1 or 2. */
  readonly models: 1 | 2;
  /** Whether the hidden states are float16: the gradient then lies beside the logits, not over them. */
  readonly half: boolean;
}

/** Bytes of a chunk, for each of its logits: float32 for each model, or (see {@link pieceRowsOf}) 2 and 2 in all. */
const bytesOfLogit = ({ models, half }: ChunkOptions): number => (half ? 4 : 4 * models);

/** Rows of a chunk when the caller does not say. */
function defaultChunkRows(software: boolean, options: ChunkOptions): number {
  const { rows, columns } = options;
  const bytes = CHUNK_BYTES[software ? 'software' : 'hardware'];
  const most = bytes / (bytesOfLogit(options) * columns);
  const step = most >= LONG_STEP ? LONG_STEP : CHUNK_STEP;
  const chunks = Math.ceil(rows / Math.max(step, Math.floor(most / step) * step));
  return Math.min(rows, Math.ceil(rows / chunks / step) * step);
}

/** Rows of a chunk: what the caller says, checked, or {@link defaultChunkRows}. */
export function resolveChunkRows(
  operation: string,
  device: Device,
  options: ChunkOptions,
  given: number | undefined,
): number {
  if (given === undefined) return defaultChunkRows(device.info.software, options);
  if (!Number.isSafeInteger(given) || given < 1) {
    throw new ZebraError('argument', `${operation}: chunkRows must be a positive integer, got ${given}`);
  }
  return Math.min(options.rows, given);
}

/**
 * Rows of a chunk whose float32 logits are in memory at a time. With float32 hidden states all of them, for the
 * gradient overwrites them. With float16 ones a half (of two models a quarter each): the gradient of the whole chunk is
 * float16, so that both kinds of memory are equally large.
 */
export function pieceRowsOf({ half, models }: Pick<ChunkOptions, 'half' | 'models'>, chunkRows: number): number {
  return half ? Math.ceil(chunkRows / (2 * models)) : chunkRows;
}

/** The chunks of `rows` rows, in order. */
export function chunksOf(rows: number, chunkRows: number): Chunk[] {
  return piecesOf({ first: 0, count: rows }, chunkRows);
}

/** The pieces of a chunk, in order. */
export function piecesOf({ first, count }: Chunk, pieceRows: number): Chunk[] {
  const pieces: Chunk[] = [];
  for (let at = 0; at < count; at += pieceRows) {
    pieces.push({ first: first + at, count: Math.min(pieceRows, count - at) });
  }
  return pieces;
}

/** Whether logits are made by float16 products: then their gradient is float16 too. */
export function isHalf(x: TensorSpec, head: TensorSpec | undefined): boolean {
  return head !== undefined && x.dtype === 'float16';
}

/** Logits that a forward leaves to its backward: those of hidden states that all fit one piece; of others none. */
export function keptLogitsSpec(head: TensorSpec | undefined, rows: number, pieceRows: number): TensorSpec | undefined {
  return head && pieceRows >= rows ? { shape: [rows, head.shape[0]!], dtype: 'float32' } : undefined;
}

/** Rows of a tensor: where they lie, and which row of the tensor is the first. */
export interface Rows {
  readonly tensor: Tensor;
  readonly start: number;
}

/** A view of some rows of [..., columns]. */
export function rowsOf(x: Tensor, { first, count }: Chunk): Tensor {
  const columns = x.shape[x.shape.length - 1]!;
  return x.view({ shape: [count, columns], dtype: x.dtype }, first * columns * BYTES[x.dtype]);
}

/**
 * Makes float32 logits a piece at a time, or finds them where they were given in memory. The head of float16 hidden
 * states is rounded to float16 once. Allocates in the open scope.
 */
export class ChunkLogits {
  readonly x: Tensor;
  /** The head as products take it. */
  readonly factor: Tensor | undefined;
  readonly head: Tensor | undefined;
  private readonly kept: boolean;
  private readonly scratch: Tensor | undefined;

  /** @param kept tensor of {@link keptLogitsSpec}; `filled` where an earlier call has computed it */
  constructor(
    x: Tensor,
    head: Tensor | undefined,
    pieceRows: number,
    { kept, filled = false }: { readonly kept?: Tensor | undefined; readonly filled?: boolean } = {},
  ) {
    this.x = x;
    this.head = head;
    this.kept = kept !== undefined && filled;
    if (!head) return;
    this.factor = isHalf(x, head) ? cast(head, 'float16') : head;
    this.scratch = kept ?? allocateTensor(x.device, { shape: [pieceRows, head.shape[0]!], dtype: 'float32' });
  }

  /** The logits of a piece; those of the piece before are lost. */
  of(piece: Chunk): Rows {
    const { factor, scratch } = this;
    if (!factor || !scratch) return { tensor: this.x, start: piece.first };
    if (!this.kept) {
      const target = rowsOf(scratch, { first: 0, count: piece.count });
      matmulInto(target, rowsOf(this.x, piece), factor, { transposeB: true });
    }
    return { tensor: scratch, start: 0 };
  }
}
