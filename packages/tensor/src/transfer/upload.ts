import { BYTES } from '../core/dtype.js';
import { showShape } from '../core/shape.js';
import type { Tensor } from '../core/tensor.js';
import type { Device } from '../device/device.js';
import { settle } from '../device/settle.js';
import type { Storage } from '../device/storage.js';
import { ZebraError } from '../errors.js';
import { elementsOfWord } from '../ops/cast/cast.wgsl.js';
import { convertKernel, type FloatType } from './convert.wgsl.js';
import { type ConversionFindings, newFlags, readFlags } from './findings.js';

/** A tensor to fill, and where its elements come from. */
export interface TensorUpload {
  /** Made before, of a float dtype, and no view of another. Its contents are replaced. */
  readonly tensor: Tensor;
  /** Element type of the bytes. */
  readonly dtype: FloatType;
  /** Fills `target`, whose memory belongs to the device and is void afterwards, with the little-endian bytes from `begin` on. */
  readonly read: (target: Uint8Array, begin: number) => Promise<void>;
}

/** Options of {@link uploadTensors}. */
export interface UploadOptions {
  /** Bytes of a piece, a multiple of 1024. Default 16 MiB. */
  readonly pieceBytes?: number;
  /** Pieces under way at once: host memory is this many pieces. Default 4. */
  readonly pieces?: number;
  /** Called after each piece with its bytes in the source. */
  readonly onBytes?: (bytes: number) => void;
}

/**
 * Fills tensors from a file or a stream, in bounded host memory: pieces are read straight into memory that the device
 * can copy from, several at once, and converted by a kernel. Nothing of it passes through JavaScript.
 *
 * Narrower floats round to nearest even; what is not finite, or overflows, is counted by the device and reported.
 *
 * @returns what was met in each tensor, in order
 * @throws ZebraError `argument` for tensors that are views or no floats, `program` while a program is captured; what
 *   the `read` functions throw. The tensors' contents are then undefined.
 */
export async function uploadTensors(
  device: Device,
  uploads: readonly TensorUpload[],
  options: UploadOptions = {},
): Promise<ConversionFindings[]> {
  const { pieceBytes = 16 * 2 ** 20, pieces = 4, onBytes } = options;
  check(device, uploads, pieceBytes, pieces);
  const queue = piecesOf(uploads, pieceBytes);
  const largest = uploads.reduce((most, { tensor, dtype }) => Math.max(most, tensor.size * BYTES[dtype]), 0);
  const slotBytes = Math.min(pieceBytes, Math.ceil(largest / 16) * 16);
  if (slotBytes === 0) return uploads.map(() => ({ notFinite: false, overflow: false }));
  const flags = newFlags(device, uploads.length);
  const scratch = device.allocate(slotBytes);
  const failures: unknown[] = [];
  // Each worker owns one piece of staging memory; the order in which pieces arrive does not matter.
  const worker = async () => {
    const slot = new StagingSlot(device, slotBytes);
    try {
      for (let piece = queue.next(); !piece.done && failures.length === 0; piece = queue.next()) {
        const { upload, item, begin, bytes } = piece.value;
        await slot.ready();
        await upload.read(slot.bytes(bytes), begin);
        slot.copyTo(scratch, bytes);
        convertPiece(device, upload, { scratch, flags, item, begin, bytes });
        onBytes?.(bytes);
      }
    } catch (error) {
      failures.push(error);
    } finally {
      slot.dispose();
    }
  };
  try {
    await Promise.all(Array.from({ length: Math.max(1, pieces) }, worker));
    if (failures.length > 0) throw failures[0];
    return await readFlags(flags, uploads.length);
  } finally {
    scratch.release();
    flags.dispose();
  }
}

interface Piece {
  readonly upload: TensorUpload;
  readonly item: number;
  readonly begin: number;
  readonly bytes: number;
}

function* piecesOf(uploads: readonly TensorUpload[], pieceBytes: number): Generator<Piece, undefined> {
  for (const [item, upload] of uploads.entries()) {
    const size = upload.tensor.size * BYTES[upload.dtype];
    for (let begin = 0; begin < size; begin += pieceBytes) {
      yield { upload, item, begin, bytes: Math.min(pieceBytes, size - begin) };
    }
  }
  return undefined;
}

function convertPiece(
  device: Device,
  { tensor, dtype }: TensorUpload,
  place: { scratch: Storage; flags: Tensor; item: number; begin: number; bytes: number },
): void {
  const { scratch, flags, item, begin, bytes } = place;
  const count = bytes / BYTES[dtype];
  const words = Math.ceil(count / elementsOfWord(tensor.dtype));
  const offset = tensor.offset + (begin / BYTES[dtype]) * BYTES[tensor.dtype];
  device.dispatch(convertKernel, {
    bindings: {
      x: { storage: scratch, offset: 0, size: Math.ceil(bytes / 4) * 4, dtype: 'uint32' },
      y: { storage: tensor.storage, offset, size: 4 * words, dtype: 'uint32' },
      found: flags.range(),
    },
    params: { first: 0, count, words, item },
    constants: { from: dtype, to: tensor.dtype },
    groups: Math.ceil(words / device.workgroupOf(convertKernel)),
  });
  // So that the copy of the next piece cannot overtake it, and staging memory comes back soon.
  device.flush();
}

/** Memory that the host fills and the device copies from. */
class StagingSlot {
  private readonly device: Device;
  private readonly buffer: GPUBuffer;
  private mapping: Promise<void> | undefined;

  constructor(device: Device, bytes: number) {
    this.device = device;
    const usage = 0x02 /* MAP_WRITE */ | 0x04; /* COPY_SRC */
    this.buffer = device.gpu.createBuffer({ size: bytes, usage, mappedAtCreation: true });
  }

  /** Waits until the device has copied what was in it before. */
  async ready(): Promise<void> {
    if (!this.mapping) return;
    await settle(this.mapping, this.device.info.software);
    this.mapping = undefined;
  }

  bytes(count: number): Uint8Array {
    return new Uint8Array(this.buffer.getMappedRange(), 0, count);
  }

  copyTo(target: Storage, bytes: number): void {
    this.buffer.unmap();
    this.device.flush();
    const encoder = this.device.gpu.createCommandEncoder();
    encoder.copyBufferToBuffer(this.buffer, 0, target.buffer as GPUBuffer, 0, Math.ceil(bytes / 4) * 4);
    this.device.gpu.queue.submit([encoder.finish()]);
    this.mapping = this.buffer.mapAsync(0x02);
    // Where nobody comes to wait for it, its failure is the device's, which says so itself.
    this.mapping.catch(() => undefined);
  }

  dispose(): void {
    this.buffer.destroy();
  }
}

function check(device: Device, uploads: readonly TensorUpload[], pieceBytes: number, pieces: number): void {
  if (device.capturing) {
    throw new ZebraError('program', 'uploadTensors: a program is being captured; upload before, or between runs');
  }
  if (!(Number.isSafeInteger(pieceBytes) && pieceBytes > 0 && pieceBytes % 1024 === 0 && pieces >= 1)) {
    throw new ZebraError(
      'argument',
      `uploadTensors: pieceBytes must be a multiple of 1024 and pieces at least 1, got ${pieceBytes} and ${pieces}`,
    );
  }
  for (const { tensor } of uploads) {
    const isFloat = tensor.dtype === 'float32' || tensor.dtype === 'float16' || tensor.dtype === 'bfloat16';
    if (isFloat && tensor.offset % 256 === 0 && !tensor.disposed) continue;
    const what = tensor.disposed ? 'is disposed' : isFloat ? 'is a view into another' : `is ${tensor.dtype}`;
    throw new ZebraError(
      'argument',
      `uploadTensors: a tensor ${showShape(tensor.shape)} ${what}. Give float tensors of their own.`,
    );
  }
}
