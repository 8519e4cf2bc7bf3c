import { BYTES } from '../core/dtype.js';
import type { Tensor } from '../core/tensor.js';
import type { Device } from '../device/device.js';
import { settle } from '../device/settle.js';
import type { Storage } from '../device/storage.js';
import { ZebraError } from '../errors.js';
import { elementsOfWord } from '../ops/cast/cast.wgsl.js';
import { convertKernel, type FloatType } from './convert.wgsl.js';
import { type ConversionFindings, newFlags, readFlags } from './findings.js';

/** Options of {@link downloadTensor}. */
export interface DownloadOptions {
  /** Bytes of a piece of the result, a multiple of 1024. Default 16 MiB. */
  readonly pieceBytes?: number;
}

/**
 * Reads a float tensor back in pieces, converted on the device to another float type, in bounded host memory: while
 * one piece is in the caller's hands the next is under way.
 *
 * @yields the little-endian bytes in order; a piece is memory of the device, and void once the next is asked for
 * @returns what the conversion met, after the last piece
 * @throws ZebraError `argument` for a tensor of another kind; `program` while a program is captured
 */
export async function* downloadTensor(
  tensor: Tensor,
  dtype: FloatType,
  options: DownloadOptions = {},
): AsyncGenerator<Uint8Array, ConversionFindings, undefined> {
  const { pieceBytes = 16 * 2 ** 20 } = options;
  const { device } = tensor;
  check(tensor, pieceBytes);
  const size = tensor.size * BYTES[dtype];
  if (size === 0) return { notFinite: false, overflow: false };
  const slotBytes = Math.min(pieceBytes, Math.ceil(size / 16) * 16);
  const flags = newFlags(device, 1);
  const scratch = device.allocate(slotBytes);
  const slots = [0, 1].map(() =>
    device.gpu.createBuffer({ size: slotBytes, usage: 0x01 /* MAP_READ */ | 0x08 /* COPY_DST */ }),
  );
  const start = (begin: number): Promise<void> => {
    const bytes = Math.min(pieceBytes, size - begin);
    convertPiece(device, { tensor, dtype, scratch, flags, begin, bytes });
    const slot = slots[(begin / pieceBytes) % 2]!;
    const encoder = device.gpu.createCommandEncoder();
    encoder.copyBufferToBuffer(scratch.buffer as GPUBuffer, 0, slot, 0, Math.ceil(bytes / 4) * 4);
    device.gpu.queue.submit([encoder.finish()]);
    const mapped = slot.mapAsync(0x01);
    mapped.catch(() => undefined);
    return mapped;
  };
  try {
    let next = start(0);
    for (let begin = 0; begin < size; begin += pieceBytes) {
      const mapped = next;
      if (begin + pieceBytes < size) next = start(begin + pieceBytes);
      await settle(mapped, device.info.software);
      const slot = slots[(begin / pieceBytes) % 2]!;
      yield new Uint8Array(slot.getMappedRange(), 0, Math.min(pieceBytes, size - begin));
      slot.unmap();
    }
    return (await readFlags(flags, 1))[0] as ConversionFindings;
  } finally {
    for (const slot of slots) slot.destroy();
    scratch.release();
    flags.dispose();
  }
}

function convertPiece(
  device: Device,
  piece: { tensor: Tensor; dtype: FloatType; scratch: Storage; flags: Tensor; begin: number; bytes: number },
): void {
  const { tensor, dtype, scratch, flags, begin, bytes } = piece;
  const count = bytes / BYTES[dtype];
  const words = Math.ceil(count / elementsOfWord(dtype));
  // Bindings begin at multiples of 256 bytes; a view may not.
  const from = tensor.offset + (begin / BYTES[dtype]) * BYTES[tensor.dtype];
  const offset = Math.floor(from / 256) * 256;
  const end = Math.ceil((from + count * BYTES[tensor.dtype]) / 4) * 4;
  device.dispatch(convertKernel, {
    bindings: {
      x: { storage: tensor.storage, offset, size: end - offset, dtype: 'uint32' },
      y: { storage: scratch, offset: 0, size: 4 * words, dtype: 'uint32' },
      found: flags.range(),
    },
    params: { first: (from - offset) / BYTES[tensor.dtype], count, words, item: 0 },
    constants: { from: tensor.dtype, to: dtype },
    groups: Math.ceil(words / device.workgroupOf(convertKernel)),
  });
  device.flush();
}

function check(tensor: Tensor, pieceBytes: number): void {
  if (tensor.device.capturing) {
    throw new ZebraError('program', 'downloadTensor: a program is being captured; read after a run');
  }
  if (!(Number.isSafeInteger(pieceBytes) && pieceBytes > 0 && pieceBytes % 1024 === 0)) {
    throw new ZebraError('argument', `downloadTensor: pieceBytes must be a multiple of 1024, got ${pieceBytes}`);
  }
  // Throws where it is disposed.
  const { dtype } = tensor.range();
  if (dtype !== 'float32' && dtype !== 'float16' && dtype !== 'bfloat16') {
    throw new ZebraError('argument', `downloadTensor: expected a float tensor, got ${dtype}`);
  }
}
