import { ZebraError } from '../errors.js';
import { Storage, type StorageOwner } from './storage.js';

const USAGE =
  // Numbers, not GPUBufferUsage.*: the namespace is not a global in Node.
  0x80 /* STORAGE */ | 0x04 /* COPY_SRC */ | 0x08; /* COPY_DST */

/** Live and pooled memory of a device, in buffers and bytes. */
export interface PoolStatistics {
  liveBuffers: number;
  liveBytes: number;
  peakBytes: number;
  pooledBuffers: number;
  pooledBytes: number;
}

/** Rounds a size up to its class: powers of two below 4 KiB, then eight classes a doubling. */
function sizeClass(bytes: number): number {
  if (bytes <= 256) return 256;
  const power = 2 ** Math.ceil(Math.log2(bytes));
  if (bytes <= 4096) return power;
  const step = power / 16;
  return Math.ceil(bytes / step) * step;
}

/** The largest size that a buffer may have, a multiple of 16. */
function largest(limit: number): number {
  return Math.floor(limit / 16) * 16;
}

/**
 * Recycles GPU buffers by size class. Safe without fences, since one queue runs everything in order; the exception,
 * a host write overtaking recorded commands, is the device's to guard (it flushes first).
 */
export class BufferPool implements StorageOwner {
  private readonly free_ = new Map<number, GPUBuffer[]>();
  private doomed: GPUBuffer[] = [];
  private readonly device: GPUDevice;
  private readonly maxBufferSize: number;
  readonly statistics: PoolStatistics = {
    liveBuffers: 0,
    liveBytes: 0,
    peakBytes: 0,
    pooledBuffers: 0,
    pooledBytes: 0,
  };

  constructor(device: GPUDevice, maxBufferSize: number) {
    this.device = device;
    this.maxBufferSize = maxBufferSize;
  }

  /** A storage of at least `bytes`, its contents undefined. */
  allocate(bytes: number): Storage {
    const wanted = sizeClass(bytes);
    // The class of what just fits may not.
    const size = wanted > this.maxBufferSize && bytes <= this.maxBufferSize ? largest(this.maxBufferSize) : wanted;
    if (size > this.maxBufferSize) {
      throw new ZebraError(
        'memory',
        `a buffer of ${bytes} bytes was asked for; this adapter's largest is ${this.maxBufferSize}. Use smaller chunks or another adapter.`,
      );
    }
    const storage = new Storage(this, size, this.take(size));
    const s = this.statistics;
    s.liveBuffers++;
    s.liveBytes += size;
    s.peakBytes = Math.max(s.peakBytes, s.liveBytes);
    return storage;
  }

  private take(size: number): GPUBuffer {
    const list = this.free_.get(size);
    const buffer = list?.pop();
    if (buffer) {
      this.statistics.pooledBuffers--;
      this.statistics.pooledBytes -= size;
      return buffer;
    }
    return this.device.createBuffer({ size, usage: USAGE });
  }

  free(storage: Storage): void {
    const buffer = storage.buffer as GPUBuffer;
    storage.buffer = undefined;
    const s = this.statistics;
    s.liveBuffers--;
    s.liveBytes -= storage.byteLength;
    const list = this.free_.get(storage.byteLength);
    if (list) list.push(buffer);
    else this.free_.set(storage.byteLength, [buffer]);
    s.pooledBuffers++;
    s.pooledBytes += storage.byteLength;
  }

  /** Gives all pooled buffers back to the driver. They are destroyed at the next {@link BufferPool.afterSubmit}. */
  trim(): void {
    for (const list of this.free_.values()) this.doomed.push(...list);
    this.free_.clear();
    this.statistics.pooledBuffers = 0;
    this.statistics.pooledBytes = 0;
  }

  /** To be called when no unsubmitted command refers to pooled buffers. */
  afterSubmit(): void {
    if (this.doomed.length === 0) return;
    for (const buffer of this.doomed) buffer.destroy();
    this.doomed = [];
  }
}
