import { ZebraError } from '../errors.js';
import type { GpuBuffer, GpuDevice } from './gpu-types.js';
import { outOfMemoryMessage } from './memory-message.js';
import { Storage, type StorageOrigin, type StorageOwner } from './storage.js';

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

/** What a pool is made with. */
export interface PoolOptions {
  readonly maxBufferSize: number;
  /** Bytes in use and pooled, at most. */
  readonly memoryLimit: number | undefined;
  /** Told when the driver had no memory for a buffer, some time after it was made. */
  readonly onOutOfMemory: (error: ZebraError) => void;
}

/** Memory that is about to be taken. */
export interface PlannedMemory {
  readonly byteLength: number;
  readonly origin?: StorageOrigin | undefined;
}

/** Buffers from this size on are watched for a GPU that runs out of memory. */
const WATCHED_BYTES = 2 ** 24;

/**
 * Recycles GPU buffers by size class. Safe without fences, since one queue runs everything in order; the exception,
 * a host write overtaking recorded commands, is the device's to guard (it flushes first).
 */
export class BufferPool implements StorageOwner {
  private readonly free_ = new Map<number, GpuBuffer[]>();
  private doomed: GpuBuffer[] = [];
  private readonly device: GpuDevice;
  private readonly options: PoolOptions;
  /** Storages in use. */
  readonly live = new Set<Storage>();
  readonly statistics: PoolStatistics = {
    liveBuffers: 0,
    liveBytes: 0,
    peakBytes: 0,
    pooledBuffers: 0,
    pooledBytes: 0,
  };

  constructor(device: GpuDevice, options: PoolOptions) {
    this.device = device;
    this.options = options;
  }

  /** A storage of at least `bytes`, its contents undefined. */
  allocate(bytes: number, origin?: StorageOrigin): Storage {
    const { maxBufferSize } = this.options;
    const wanted = sizeClass(bytes);
    // The class of what just fits may not.
    const size = wanted > maxBufferSize && bytes <= maxBufferSize ? largest(maxBufferSize) : wanted;
    if (size > maxBufferSize) {
      throw new ZebraError(
        'memory',
        `a buffer of ${bytes} bytes was asked for; this adapter's largest is ${maxBufferSize}. Use smaller chunks or another adapter.`,
      );
    }
    if (!this.free_.get(size)?.length) this.assertRoom([{ byteLength: size, origin }]);
    const storage = new Storage(this, size, this.take(size, origin), origin);
    this.live.add(storage);
    const s = this.statistics;
    s.liveBuffers++;
    s.liveBytes += size;
    s.peakBytes = Math.max(s.peakBytes, s.liveBytes);
    return storage;
  }

  /**
   * Throws where memory for all of these would pass the limit. What is pooled gives way first.
   *
   * @param named what the message names: the items themselves, unless they are shared by others
   */
  assertRoom(items: readonly PlannedMemory[], named: readonly PlannedMemory[] = items): void {
    const { memoryLimit } = this.options;
    if (memoryLimit === undefined) return;
    const { liveBytes, pooledBytes } = this.statistics;
    const wanted = items.reduce((sum, { byteLength }) => sum + byteLength, 0);
    if (liveBytes + wanted > memoryLimit) {
      throw new ZebraError('memory', outOfMemoryMessage({ wanted, taken: liveBytes, memoryLimit }, named, this.live));
    }
    if (liveBytes + pooledBytes + wanted > memoryLimit) this.trim();
  }

  /** Makes a buffer. What large ones do to a GPU that is full is found out later, and then told as what it is. */
  private create(size: number, origin: StorageOrigin | undefined): GpuBuffer {
    const watched = size >= WATCHED_BYTES;
    if (watched) this.device.pushErrorScope('out-of-memory');
    const buffer = this.device.createBuffer({ size, usage: USAGE });
    if (watched) {
      const { liveBytes } = this.statistics;
      const live = [...this.live];
      const tell = (error: GPUError | null) => {
        if (!error) return;
        const message = outOfMemoryMessage({ wanted: size, taken: liveBytes }, [{ byteLength: size, origin }], live);
        this.options.onOutOfMemory(new ZebraError('memory', message, { cause: error }));
      };
      // Rejected where the device is gone: that is told elsewhere.
      this.device.popErrorScope().then(tell, () => undefined);
    }
    return buffer;
  }

  private take(size: number, origin: StorageOrigin | undefined): GpuBuffer {
    const list = this.free_.get(size);
    const buffer = list?.pop();
    if (buffer) {
      this.statistics.pooledBuffers--;
      this.statistics.pooledBytes -= size;
      return buffer;
    }
    return this.create(size, origin);
  }

  free(storage: Storage): void {
    const buffer = storage.buffer as GpuBuffer;
    storage.buffer = undefined;
    this.live.delete(storage);
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
