/** Whoever hands out storages and takes them back: the pool of a device, or a program being recorded. */
export interface StorageOwner {
  free(storage: Storage): void;
}

/**
 * A reference-counted piece of GPU memory. Tensors hold storages; views of one tensor share one.
 *
 * `buffer` is undefined while a program is being recorded: memory is planned when the recording ends.
 */
export class Storage {
  buffer: GPUBuffer | undefined;
  references = 1;
  readonly byteLength: number;
  readonly owner: StorageOwner;

  constructor(owner: StorageOwner, byteLength: number, buffer?: GPUBuffer) {
    this.owner = owner;
    this.byteLength = byteLength;
    this.buffer = buffer;
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
