import { ZebraError } from '@zebra/tensor';
import { isCommit } from './names.js';

/**
 * One repository in the cache, in the layout of Python's `huggingface_hub`, so that both share what either downloads:
 * `blobs/` holds contents by ETag, `snapshots/<commit>/` links to them, `refs/<revision>` says the commit of a branch.
 */
export class CachedRepository {
  private constructor(
    /** `models--org--name`. */
    readonly folder: string,
    private readonly path: typeof import('node:path'),
    private readonly fs: typeof import('node:fs/promises'),
  ) {}

  static async open(cacheFolder: string, repo: string): Promise<CachedRepository> {
    const [path, fs] = await Promise.all([import('node:path'), import('node:fs/promises')]);
    return new CachedRepository(
      path.join(path.resolve(cacheFolder), `models--${repo.replaceAll('/', '--')}`),
      path,
      fs,
    );
  }

  snapshot(commit: string): string {
    return this.path.join(this.folder, 'snapshots', commit);
  }

  blob(etag: string): string {
    return this.path.join(this.folder, 'blobs', etag);
  }

  /** The commit that a revision was when it was last asked for, undefined where it never was. */
  async commitOf(revision: string): Promise<string | undefined> {
    if (isCommit(revision)) return revision;
    const text = await this.fs.readFile(this.refPath(revision), 'utf8').catch(() => '');
    return isCommit(text.trim()) ? text.trim() : undefined;
  }

  async setCommit(revision: string, commit: string): Promise<void> {
    if (revision === commit || (await this.commitOf(revision)) === commit) return;
    const path = this.refPath(revision);
    await this.appear(path, (temporary) => this.fs.writeFile(temporary, commit));
  }

  /** Makes the folders of a commit. */
  async prepare(commit: string): Promise<void> {
    await this.attempt(this.folder, async () => {
      await this.fs.mkdir(this.path.join(this.folder, 'blobs'), { recursive: true });
      await this.fs.mkdir(this.snapshot(commit), { recursive: true });
    });
  }

  /** Size of a file of a snapshot in bytes, undefined where it is not there or its link leads nowhere. */
  async sizeOf(commit: string, name: string): Promise<number | undefined> {
    return this.fs.stat(this.path.join(this.snapshot(commit), name)).then(
      (found) => (found.isFile() ? found.size : undefined),
      () => undefined,
    );
  }

  /** Makes a blob appear in a snapshot: as a relative link, or where links are not allowed as a copy. */
  async link(commit: string, name: string, etag: string): Promise<void> {
    const path = this.path.join(this.snapshot(commit), name);
    const target = this.path.relative(this.path.dirname(path), this.blob(etag));
    await this.appear(path, (temporary) =>
      this.fs.symlink(target, temporary).catch(() => this.fs.copyFile(this.blob(etag), temporary)),
    );
  }

  private refPath(revision: string): string {
    return this.path.join(this.folder, 'refs', ...revision.split('/'));
  }

  /** Makes a file under another name and renames it. The name is its own each time: one process may do the same twice at once. */
  private async appear(path: string, make: (temporary: string) => Promise<void>): Promise<void> {
    await this.attempt(path, async () => {
      await this.fs.mkdir(this.path.dirname(path), { recursive: true });
      const temporary = `${path}.${crypto.randomUUID()}.tmp`;
      try {
        await make(temporary);
        await this.fs.rename(temporary, path);
      } catch (error) {
        await this.fs.rm(temporary, { force: true }).catch(() => undefined);
        throw error;
      }
    });
  }

  private async attempt(path: string, work: () => Promise<void>): Promise<void> {
    try {
      await work();
    } catch (cause) {
      throw diskError(path, cause);
    }
  }
}

/** The error for a disk that does not take what was downloaded. */
export function diskError(path: string, cause: unknown): ZebraError {
  return new ZebraError(
    'io',
    `hub: ${path} could not be written: ${(cause as Error).message}. See that the cache's folder is writable and the disk has room (HF_HUB_CACHE says where it is); what was downloaded is kept.`,
    { cause },
  );
}
