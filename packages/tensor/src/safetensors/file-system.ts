import { nodeFs } from '../node-modules.js';

/** A file being written. */
export interface WriterHandle {
  /** Writes some of `bytes` at the current end and says how many. */
  write(bytes: Uint8Array): Promise<number>;
  /** Returns once the file's content is on the disk. */
  sync(): Promise<void>;
  close(): Promise<void>;
}

/** What the writers ask of a file system. Tests put failing ones in its place. */
export interface WriterFileSystem {
  /** Creates a file; fails if it exists. */
  create(path: string): Promise<WriterHandle>;
  rename(from: string, to: string): Promise<void>;
  unlink(path: string): Promise<void>;
  /** Creates a folder and those above it; does nothing if it exists. */
  makeFolder(path: string): Promise<void>;
  /** Names in a folder. */
  list(folder: string): Promise<string[]>;
  /** Time of the last change, in milliseconds since 1970. */
  modified(path: string): Promise<number>;
  /** Returns once the folder's renames are on the disk. */
  syncFolder(path: string): Promise<void>;
}

/** The local disk, through `node:fs`. */
export async function nodeFileSystem(): Promise<WriterFileSystem> {
  const { mkdir, open, readdir, rename, stat, unlink } = await nodeFs();
  return {
    async create(path) {
      const handle = await open(path, 'wx');
      return {
        write: async (bytes) => (await handle.write(bytes)).bytesWritten,
        sync: () => handle.sync(),
        close: () => handle.close(),
      };
    },
    rename,
    unlink,
    makeFolder: async (path) => void (await mkdir(path, { recursive: true })),
    list: (folder) => readdir(folder),
    modified: async (path) => (await stat(path)).mtimeMs,
    async syncFolder(path) {
      let handle: Awaited<ReturnType<typeof open>> | undefined;
      try {
        handle = await open(path, 'r');
        await handle.sync();
      } catch (error) {
        // Windows and some network file systems can't sync a folder; the rename is as safe there as it gets.
        const code = (error as { code?: string }).code ?? '';
        if (!['EISDIR', 'EPERM', 'EACCES', 'EINVAL', 'ENOTSUP', 'EBADF'].includes(code)) throw error;
      } finally {
        await handle?.close();
      }
    },
  };
}
