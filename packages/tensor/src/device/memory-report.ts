import type { Tensor } from '../core/tensor.js';
import type { Device } from './device.js';
import { describeOrigin, type Storage } from './storage.js';

/** One piece of memory in a {@link MemoryReport}. */
export interface MemoryItem {
  /** The tensor's name where one was given, else the operation that made it, with dtype and shape. */
  readonly name: string;
  readonly category: string;
  readonly bytes: number;
}

/** What takes a device's memory. */
export interface MemoryReport {
  /** Bytes by category: those asked about, `workspace` (programs) and `other`. They add up to `liveBytes`. */
  readonly categories: Readonly<Record<string, number>>;
  /** The largest items, largest first. */
  readonly largest: readonly MemoryItem[];
  /** Bytes in use. */
  readonly liveBytes: number;
  /** Bytes held for what comes next; with `liveBytes` they are what the process holds of the GPU for tensors. */
  readonly pooledBytes: number;
  /** The most that was in use at once since the device was opened. */
  readonly peakBytes: number;
}

/** Category of the memory that programs share between their intermediates and outputs. */
const WORKSPACE = 'workspace';

/**
 * Says what a device's memory is used for, as the device counts it: whole buffers, which are up to an eighth larger than
 * the tensors in them. Nothing is read from the GPU.
 *
 * @param categories tensors by name, by category: `{ weights: model.namedParameters() }`. Memory that is in several is
 *   counted for the first
 * @param options `items`: how many of the largest to list; default 10
 */
export function memoryReport(
  device: Device,
  categories: Readonly<Record<string, ReadonlyMap<string, Tensor>>> = {},
  { items = 10 }: { readonly items?: number } = {},
): MemoryReport {
  const known = new Map<Storage, { readonly name: string; readonly category: string }>();
  for (const [category, tensors] of Object.entries(categories)) {
    for (const [name, tensor] of tensors) {
      if (!tensor.disposed && !known.has(tensor.storage)) known.set(tensor.storage, { name, category });
    }
  }
  const all: MemoryItem[] = [];
  const sums: Record<string, number> = { ...Object.fromEntries(Object.keys(categories).map((name) => [name, 0])) };
  for (const storage of device.liveStorages()) {
    const { origin, byteLength: bytes } = storage;
    const category = known.get(storage)?.category ?? (origin?.program ? WORKSPACE : 'other');
    const name = known.get(storage)?.name ?? describeOrigin(origin);
    all.push({ name, category, bytes });
    sums[category] = (sums[category] ?? 0) + bytes;
  }
  const { liveBytes, pooledBytes, peakBytes } = device.statistics();
  all.sort((a, b) => b.bytes - a.bytes);
  return { categories: sums, largest: all.slice(0, items), liveBytes, pooledBytes, peakBytes };
}
