import { ZebraError } from '@zebra/tensor';
import { CachedRepository } from './cache.js';
import { HubClient } from './client.js';
import { describeFile, downloadBlob, type RemoteFile } from './download-blob.js';
import { statusOf } from './errors.js';
import { modelFilesIn, SMALL_FILES, shardsOf, weightsEntry } from './files.js';
import { assertRepositoryName, assertRevision, isCommit } from './names.js';
import { type HubProgress, ProgressMeter } from './progress.js';
import { type HubOptions, hubCacheFolder, hubSettings, offlineByEnvironment } from './settings.js';

/** Options of {@link downloadModel}. */
export interface DownloadModelOptions extends HubOptions {
  /** Branch, tag or commit. Default `main`. */
  readonly revision?: string;
  /** Folder of the cache. Default: `HF_HUB_CACHE`, else `HF_HOME/hub`, else ~/.cache/huggingface/hub. */
  readonly cacheDir?: string;
  /** Take what the cache has and ask nobody. Default: `HF_HUB_OFFLINE`. */
  readonly offline?: boolean;
  /** Called about ten times a second, and at the end. */
  readonly onProgress?: (progress: HubProgress) => void;
}

/** A model in the cache. */
export interface DownloadedModel {
  /** Folder with the model's files, which are links; what `loadModel` and `loadTokenizer` take. */
  readonly folder: string;
  /** The repository's folder in the cache, below which the links lead: `linkRoot` of `loadModel`. */
  readonly linkRoot: string;
  /** Commit of the revision. */
  readonly commit: string;
}

const FILES_AT_ONCE = 4;

/**
 * Brings a model from the Hugging Face hub into the cache that Python's `huggingface_hub` uses too, and gives its
 * folder. Only files that loading looks at are fetched: configs, tokenizer, chat template, and weights as safetensors.
 * Files that are there already are not asked for again; interrupted ones go on where they stopped. When the hub cannot
 * be reached, a complete model in the cache is taken as it is.
 *
 * @param repo `org/name`
 * @throws ZebraError `argument` for names and revisions of the wrong form; `io` when the hub refuses (the message says
 *   what to do), cannot be reached, or the disk is full; `format` for repositories without safetensors; `data` for
 *   contents that do not match their hash
 */
export async function downloadModel(repo: string, options: DownloadModelOptions = {}): Promise<DownloadedModel> {
  const { revision = 'main', offline = offlineByEnvironment(), onProgress } = options;
  assertRepositoryName('downloadModel', repo);
  assertRevision('downloadModel', revision);
  const cache = await CachedRepository.open(await hubCacheFolder(options.cacheDir), repo);
  const cached = await cachedModel(cache, revision);
  if (offline) {
    if (cached) return cached;
    throw new ZebraError(
      'io',
      `downloadModel: ${repo} at ${revision} is not complete in the cache (${cache.folder}), and the network is off (option offline, or HF_HUB_OFFLINE). Download it once with the network on.`,
    );
  }
  const settings = await hubSettings(options);
  // With something to fall back on, one retry is enough to find out that there is no network.
  const patience = cached ? { ...settings, retries: Math.min(1, settings.retries) } : settings;
  let commit: string;
  let files: ReadonlySet<string>;
  try {
    ({ commit, files } = await listRepository(new HubClient(patience, repo, revision), repo, revision));
  } catch (error) {
    const status = statusOf(error);
    const isAway =
      ZebraError.is(error) && error.code === 'io' && (status === undefined || status === 429 || status >= 500);
    if (cached && isAway) return cached;
    throw error;
  }
  const job = new SnapshotDownload(new HubClient(settings, repo, revision), cache, repo, commit);
  await cache.prepare(commit);
  const weights = weightsEntry(repo, files);
  const small = SMALL_FILES.filter((name) => files.has(name));
  await job.describe([...small, weights.name]);
  // The index first: only then the number of bytes is known.
  let names = [...small, weights.name];
  if (weights.isIndex) {
    await job.fetch([weights.name]);
    const { join } = await import('node:path');
    const shards = await shardsOf(join(cache.snapshot(commit), weights.name));
    await job.describe(shards);
    names = [...names, ...shards];
  }
  await job.fetch(names, onProgress);
  // Last, so that whoever is offline finds the revision as it was until the new one is complete.
  await cache.setCommit(revision, commit);
  return { folder: cache.snapshot(commit), linkRoot: cache.folder, commit };
}

async function cachedModel(cache: CachedRepository, revision: string): Promise<DownloadedModel | undefined> {
  const commit = await cache.commitOf(revision);
  if (commit === undefined || !(await modelFilesIn(cache.snapshot(commit)))) return undefined;
  return { folder: cache.snapshot(commit), linkRoot: cache.folder, commit };
}

async function listRepository(
  client: HubClient,
  repo: string,
  revision: string,
): Promise<{ commit: string; files: ReadonlySet<string> }> {
  const { modelInfo } = await import('@huggingface/hub');
  const { sha, filePaths } = await modelInfo({
    name: repo,
    revision,
    additionalFields: ['sha', 'filePaths'],
    hubUrl: client.settings.endpoint,
    fetch: client.fetch,
  }).catch((cause: unknown) => {
    if (ZebraError.is(cause) || client.settings.signal?.aborted) throw cause;
    throw new ZebraError('format', `hub: ${repo}: the answer cannot be read: ${(cause as Error).message}`, { cause });
  });
  if (!isCommit(sha) || !Array.isArray(filePaths)) {
    throw new ZebraError(
      'format',
      `hub: ${repo}: the answer names no commit and files. See that the endpoint is a Hugging Face hub, or a mirror of one.`,
    );
  }
  return { commit: sha, files: new Set(filePaths) };
}

/** Brings files of one commit into the cache. */
class SnapshotDownload {
  private readonly missing = new Map<string, RemoteFile>();
  private readonly sizes = new Map<string, number>();
  private readonly underWay = new Map<string, Promise<void>>();

  constructor(
    private readonly client: HubClient,
    private readonly cache: CachedRepository,
    private readonly repo: string,
    private readonly commit: string,
  ) {}

  /** Finds out which files are missing, and how large all are. */
  async describe(names: readonly string[]): Promise<void> {
    await inParallel(names, async (name) => {
      const there = await this.cache.sizeOf(this.commit, name);
      if (there !== undefined) {
        this.sizes.set(name, there);
        return;
      }
      const path = name.split('/').map(encodeURIComponent).join('/');
      const url = `${this.client.settings.endpoint}/${this.repo}/resolve/${this.commit}/${path}`;
      const file = await describeFile(this.client, url, name, this.commit);
      this.sizes.set(name, file.size);
      this.missing.set(name, file);
    });
  }

  /** Downloads what is missing of these files. */
  async fetch(names: readonly string[], onProgress?: (progress: HubProgress) => void): Promise<void> {
    const sizes = new Map(names.map((name) => [name, this.sizes.get(name) ?? 0]));
    const meter = new ProgressMeter('download', sizes, onProgress);
    await inParallel(names, async (name) => {
      const file = this.missing.get(name);
      if (file) {
        await this.fetchOne(file, (there, came) => meter.set(name, there, came));
        this.missing.delete(name);
      }
      meter.finish(name);
    });
  }

  private async fetchOne(file: RemoteFile, onBytes: (there: number, came: number) => void): Promise<void> {
    // Two files of the same contents are one blob.
    let work = this.underWay.get(file.etag);
    if (!work) {
      work = this.bringBlob(file, onBytes);
      this.underWay.set(file.etag, work);
    }
    await work;
    await this.cache.link(this.commit, file.name, file.etag);
  }

  private async bringBlob(file: RemoteFile, onBytes: (there: number, came: number) => void): Promise<void> {
    const { stat } = await import('node:fs/promises');
    const path = this.cache.blob(file.etag);
    // Another commit may have had it.
    if ((await stat(path).catch(() => undefined))?.size === file.size) return;
    await downloadBlob(this.client, file, path, onBytes);
  }
}

/** Runs work on several items at once, in their order. After a failure nothing new is begun, and it waits for the rest. */
async function inParallel<T>(items: readonly T[], work: (item: T) => Promise<void>): Promise<void> {
  const failures: unknown[] = [];
  let next = 0;
  const worker = async () => {
    while (next < items.length && failures.length === 0) {
      await work(items[next++]!).catch((error) => failures.push(error));
    }
  };
  await Promise.all(Array.from({ length: Math.min(FILES_AT_ONCE, items.length) }, worker));
  if (failures.length > 0) throw failures[0];
}
