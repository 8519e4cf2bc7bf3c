import type { Command } from './command.js';
import { Storage, type StorageOrigin, type StorageOwner } from './storage.js';

/** Collects the commands of a program, over storages that have no memory until the program is planned. */
export class Recorder implements StorageOwner {
  readonly commands: Command[] = [];
  readonly made = new Set<Storage>();

  allocate(bytes: number, origin?: StorageOrigin): Storage {
    const storage = new Storage(this, Math.max(256, Math.ceil(bytes / 256) * 256), undefined, origin);
    this.made.add(storage);
    return storage;
  }

  /** Nothing to give back: the program owns the memory of everything recorded. */
  free(): void {}
}
