import { nodePath } from '../node-modules.js';
import { fromSystemError } from './errors.js';
import type { WriterFileSystem, WriterHandle } from './file-system.js';

/** Temporary names that this process is writing now. */
const active = new Set<string>();
const temporaryName = /^\.(.+)\.([0-9]+)-[0-9a-f]{12}\.tmp$/;
/** One write call is at most this long; Node refuses 2 GiB and more. */
const largestWrite = 2 ** 28;

/**
 * A file written under a temporary name beside its final one. The final name
 * changes only in `publish`, by a rename, so that a failure or a kill before
 * leaves what was there.
 */
export class PendingFile {
  readonly path: string;
  readonly #temporary: string;
  readonly #fs: WriterFileSystem;
  #handle: WriterHandle | undefined;
  #published = false;

  private constructor(path: string, temporary: string, fs: WriterFileSystem, handle: WriterHandle) {
    this.path = path;
    this.#temporary = temporary;
    this.#fs = fs;
    this.#handle = handle;
  }

  static async create(path: string, fs: WriterFileSystem): Promise<PendingFile> {
    const { basename, dirname, join } = await nodePath();
    const random = Array.from(crypto.getRandomValues(new Uint8Array(6)), (byte) => byte.toString(16).padStart(2, '0'));
    const temporary = join(dirname(path), `.${basename(path)}.${process.pid}-${random.join('')}.tmp`);
    active.add(basename(temporary));
    try {
      return new PendingFile(path, temporary, fs, await fs.create(temporary));
    } catch (error) {
      active.delete(basename(temporary));
      throw fromSystemError(error, path, 'creating the file');
    }
  }

  async write(bytes: Uint8Array): Promise<void> {
    try {
      for (let done = 0; done < bytes.length; ) {
        done += (await this.#handle?.write(bytes.subarray(done, done + largestWrite))) ?? 0;
      }
    } catch (error) {
      throw fromSystemError(error, this.path, 'writing');
    }
  }

  /** Brings the content to the disk and closes the file. */
  async seal(): Promise<void> {
    try {
      await this.#handle?.sync();
      await this.#close();
    } catch (error) {
      throw fromSystemError(error, this.path, 'writing to the disk');
    }
  }

  /** Time of the sealed file's last change, in milliseconds since 1970; a rename keeps it. */
  async modified(): Promise<number> {
    try {
      return await this.#fs.modified(this.#temporary);
    } catch (error) {
      throw fromSystemError(error, this.path, 'looking at the finished file');
    }
  }

  /** Gives the sealed file its final name, replacing what had it. The folder is still to be synced. */
  async publish(): Promise<void> {
    try {
      await this.#fs.rename(this.#temporary, this.path);
    } catch (error) {
      throw fromSystemError(error, this.path, 'renaming the finished file');
    }
    this.#published = true;
    this.#release();
  }

  /** Removes the temporary file, if it wasn't published. Never throws: the failure before it is the one to report. */
  async discard(): Promise<void> {
    if (this.#published) return;
    try {
      await this.#close();
    } catch {
      // The file is removed all the same.
    }
    try {
      await this.#fs.unlink(this.#temporary);
    } catch {
      // A later write into this folder sweeps it.
    }
    this.#release();
  }

  async #close(): Promise<void> {
    const handle = this.#handle;
    this.#handle = undefined;
    await handle?.close();
  }

  #release(): void {
    active.delete(
      this.#temporary.slice(Math.max(this.#temporary.lastIndexOf('/'), this.#temporary.lastIndexOf('\\')) + 1),
    );
  }
}

/**
 * Removes temporary files that killed writers left in a folder. One is taken
 * for left if nothing was written to it for a minute and its process is gone,
 * or for an hour whatever its process (its number may be in use again, or it
 * may be another machine's).
 */
export async function sweepTemporaryFiles(
  folder: string,
  fs: WriterFileSystem,
  isOurs: (name: string) => boolean,
): Promise<void> {
  const { join } = await nodePath();
  for (const entry of await fs.list(folder)) {
    const [, name, pid] = temporaryName.exec(entry) ?? [];
    if (name === undefined || !isOurs(name) || active.has(entry)) continue;
    try {
      const age = Date.now() - (await fs.modified(join(folder, entry)));
      if (age > (isRunning(Number(pid)) ? 3_600_000 : 60_000)) await fs.unlink(join(folder, entry));
    } catch {
      // It belongs to somebody else or is gone already; sweeping is a courtesy.
    }
  }
}

function isRunning(pid: number): boolean {
  // Under our own number, and not active: a process of an earlier start of this machine.
  if (pid === process.pid) return false;
  try {
    process.kill(pid, 0);
    return true;
  } catch (error) {
    return (error as { code?: string }).code === 'EPERM';
  }
}
