import { allocateTensor } from '../../core/define-op.js';
import { BYTES } from '../../core/dtype.js';
import type { TensorSpec } from '../../core/shape.js';
import type { Tensor } from '../../core/tensor.js';
import type { Device } from '../../device/device.js';
import { ZebraError } from '../../errors.js';
import { matmulInto } from '../matmul/index.js';
import { reduceInto } from '../reduce/reduce-kernel.js';

/** A run of rows. */
export interface Chunk {
  readonly first: number;
  readonly count: number;
}

/**
 * Bytes of one chunk of logits. A CPU wants them in its cache. On a GPU every chunk reads and writes the gradient of
 * the whole head, so chunks must be long enough for the products to outweigh that.
 */
const CHUNK_BYTES = { software: 4 * 2 ** 20, hardware: 128 * 2 ** 20 };

/** Chunks start at multiples of 64 rows: 256 bytes for rows of any length, where WebGPU lets a binding begin. */
const CHUNK_STEP = 64;

/** Rows of a chunk when the caller does not say. */
function defaultChunkRows(software: boolean, rows: number, columns: number): number {
  const bytes = CHUNK_BYTES[software ? 'software' : 'hardware'];
  const most = Math.max(1, Math.floor(bytes / (4 * columns * CHUNK_STEP))) * CHUNK_STEP;
  const chunks = Math.ceil(rows / most);
  return Math.min(rows, Math.ceil(rows / chunks / CHUNK_STEP) * CHUNK_STEP);
}

/** Rows of a chunk: what the caller says, checked, or {@link defaultChunkRows}. */
export function resolveChunkRows(
  operation: string,
  device: Device,
  rows: number,
  columns: number,
  given: number | undefined,
): number {
  if (given === undefined) return defaultChunkRows(device.info.software, rows, columns);
  if (!Number.isSafeInteger(given) || given < 1) {
    throw new ZebraError('argument', `${operation}: chunkRows must be a positive integer, got ${given}`);
  }
  return Math.min(rows, given);
}

/** The chunks of `rows` rows, in order. */
export function chunksOf(rows: number, chunkRows: number): Chunk[] {
  const chunks: Chunk[] = [];
  for (let first = 0; first < rows; first += chunkRows)
    chunks.push({ first, count: Math.min(chunkRows, rows - first) });
  return chunks;
}

/** Scratch for one chunk of logits, where they are made from hidden states. */
export function scratchSpec(head: TensorSpec | undefined, chunkRows: number): TensorSpec | undefined {
  return head && { shape: [chunkRows, head.shape[0]!], dtype: 'float32' };
}

/** Rows of a tensor: where they lie, and which row of the tensor is the first. */
export interface Rows {
  readonly tensor: Tensor;
  readonly start: number;
}

/** A view of some rows of [..., columns]. */
function rowsOf(x: Tensor, { first, count }: Chunk): Tensor {
  const columns = x.shape[x.shape.length - 1]!;
  return x.view({ shape: [count, columns], dtype: x.dtype }, first * columns * BYTES[x.dtype]);
}

/** The logits of a chunk: computed into the scratch, or, if given as they are or `kept` in the scratch, there already. */
export function logitsOf(
  x: Tensor,
  head: Tensor | undefined,
  scratch: Tensor | undefined,
  chunk: Chunk,
  { kept = false }: { readonly kept?: boolean } = {},
): Rows {
  if (!head || !scratch) return { tensor: x, start: chunk.first };
  if (!kept) {
    matmulInto(rowsOf(scratch, { first: 0, count: chunk.count }), rowsOf(x, chunk), head, { transposeB: true });
  }
  return { tensor: scratch, start: 0 };
}

/** Gathers the gradients of hidden states and head, or of logits in memory, from those of chunks of logits. */
export class LogitsGradient {
  private readonly dx: Tensor | undefined;
  private readonly dHead: Tensor | undefined;
  /** Whether the head's gradient already holds a chunk. */
  private begun = false;
  private readonly x: Tensor;
  private readonly head: Tensor | undefined;

  constructor(x: Tensor, head: Tensor | undefined, needs: readonly [boolean, boolean]) {
    this.x = x;
    this.head = head;
    this.dx = needs[0] ? allocateTensor(x.device, x) : undefined;
    // Summed over chunks in float32: float16 would round at every chunk.
    this.dHead = head && needs[1] ? allocateTensor(x.device, { shape: head.shape, dtype: 'float32' }) : undefined;
  }

  /** Whether any gradient is wanted. */
  get wanted(): boolean {
    return this.dx !== undefined || this.dHead !== undefined;
  }

  /** Where the gradient of a chunk's logits goes: over the logits in the scratch, or into the result itself. */
  target(logits: Rows): Rows {
    return this.head ? logits : { tensor: this.dx!, start: logits.start };
  }

  /** Takes the gradient of a chunk's logits, which {@link target} said where to write. */
  add(chunk: Chunk, gradient: Rows): void {
    if (!this.head) return;
    const dLogits = rowsOf(gradient.tensor, { first: gradient.start, count: chunk.count });
    if (this.dx) matmulInto(rowsOf(this.dx, chunk), dLogits, this.head);
    if (this.dHead) {
      matmulInto(this.dHead, dLogits, rowsOf(this.x, chunk), { transposeA: true, accumulate: this.begun });
      this.begun = true;
    }
  }

  /** The gradients of `x` and `head`. */
  finish(): [Tensor | undefined, Tensor | undefined] {
    const { head, dHead } = this;
    if (!head || !dHead || head.dtype === 'float32') return [this.dx, dHead];
    const rounded = allocateTensor(head.device, head);
    reduceInto(dHead, rounded, 1, 1, head.size, 'sum');
    return [this.dx, rounded];
  }
}
