import { showShape, type TensorSpec } from '../core/shape.js';
import type { GpuBuffer } from './gpu-types.js';

/** Whoever hands out storages and takes them back: the pool of a device, or a program being recorded. */
export interface StorageOwner {
  free(storage: Storage): void;
}

/** What a piece of memory is for, as reports name it. */
export interface StorageOrigin {
  /** The operation that made it, where one did. */
  readonly operation?: string | undefined;
  readonly spec?: TensorSpec | undefined;
  /** A program holds it, for this and whatever else shares it. */
  readonly program?: boolean;
}

/** What a piece of memory is called in reports. */
export function describeOrigin({ operation, spec }: StorageOrigin = {}): string {
  return [operation ?? 'tensor', ...(spec ? [spec.dtype, showShape(spec.shape)] : [])].join(' ');
}

/**
 * A reference-counted piece of GPU memory. Tensors hold storages; views of one tensor share one.
 *
 * `buffer` is undefined while a program is being recorded: memory is planned when the recording ends.
 */
export class Storage {
  buffer: GpuBuffer | undefined;
  references = 1;
  readonly byteLength: number;
  readonly owner: StorageOwner;
  readonly origin: StorageOrigin | undefined;

  constructor(owner: StorageOwner, byteLength: number, buffer?: GpuBuffer, origin?: StorageOrigin) {
    this.owner = owner;
    this.byteLength = byteLength;
    this.buffer = buffer;
    this.origin = origin;
  }

  retain(): this {
    this.references++;
    return this;
  }

  release(): void {
    if (--this.references === 0) this.owner.free(this);
  }
}

/** A range of a storage as a kernel sees it. */
export interface StorageRange {
  readonly storage: Storage;
  readonly offset: number;
  readonly size: number;
}
