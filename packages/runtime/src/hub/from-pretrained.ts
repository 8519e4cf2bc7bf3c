import { type Device, ZebraError } from '@zebra/tensor';
import { type GenerationDefaults, readGenerationDefaults } from '../checkpoint/generation-defaults.js';
import { type LoadModelOptions, loadModel, readModelSpec } from '../checkpoint/load-model.js';
import type { TransferProgress } from '../checkpoint/transfer-progress.js';
import type { HybridModel } from '../models/model.js';
import { loadTokenizer, type Tokenizer } from '../tokenizer/index.js';
import { type DownloadModelOptions, downloadModel } from './download-model.js';
import { isRepositoryName } from './names.js';

/** Options of {@link fromPretrained}. Those of {@link DownloadModelOptions} matter for models of the hub alone. */
export interface FromPretrainedOptions
  extends DownloadModelOptions,
    Pick<LoadModelOptions, 'dtype' | 'oversized' | 'maxPositions' | 'computeDType'> {
  /** Called at most ten times a second while weights go to the device, and at the end. */
  readonly onLoad?: (progress: TransferProgress) => void;
}

/** What {@link fromPretrained} gives. */
export interface Pretrained {
  /** Owned by the caller. */
  readonly model: HybridModel;
  readonly tokenizer: Tokenizer;
  /** What `generation_config.json` says: options to spread into those of `streamText`. */
  readonly generation: GenerationDefaults;
  /** Where its files lie. */
  readonly folder: string;
  /** Commit of the repository; undefined for a local folder. */
  readonly commit: string | undefined;
}

/**
 * Loads a model and its tokenizer, from a local folder or from the Hugging Face hub by way of the cache. A folder of
 * that name goes before a repository.
 *
 * @param source a folder, or the name of a repository: `org/name`
 * @throws ZebraError what `downloadModel`, `loadTokenizer` and `loadModel` throw; `argument` for a source that is
 *   neither a folder nor the name of a repository
 */
export async function fromPretrained(
  device: Device,
  source: string,
  options: FromPretrainedOptions = {},
): Promise<Pretrained> {
  const found = (await localFolder(source)) ?? (await remote(source, options));
  // First, as it is the one that costs little.
  const tokenizer = await loadTokenizer(found.folder);
  const { dtype, oversized, maxPositions, computeDType, onLoad } = options;
  const { folder, linkRoot, commit } = found;
  const { config } = await readModelSpec(folder);
  const generation = await readGenerationDefaults(folder, config);
  const model = await loadModel(device, folder, {
    ...(linkRoot && { linkRoot }),
    ...(dtype && { dtype }),
    ...(oversized && { oversized }),
    ...(computeDType && { computeDType }),
    ...(maxPositions !== undefined && { maxPositions }),
    ...(onLoad && { onProgress: onLoad }),
  });
  return { model, tokenizer, generation, folder, commit };
}

interface Found {
  readonly folder: string;
  readonly linkRoot?: string | undefined;
  readonly commit?: string;
}

async function remote(source: string, options: DownloadModelOptions): Promise<Found> {
  if (isRepositoryName(source)) return downloadModel(source, options);
  throw new ZebraError(
    'argument',
    `fromPretrained: expected a folder that is there, or the name of a repository, "org/name", got ${JSON.stringify(source)}`,
  );
}

async function localFolder(source: string): Promise<Found | undefined> {
  const [{ realpath, stat }, { basename, dirname }] = await Promise.all([
    import('node:fs/promises'),
    import('node:path'),
  ]);
  if (!(await stat(source).catch(() => undefined))?.isDirectory()) return undefined;
  // A snapshot in the cache: its links lead to the blobs of its repository.
  const snapshots = dirname(await realpath(source));
  const repository = dirname(snapshots);
  const isSnapshot = basename(snapshots) === 'snapshots' && basename(repository).startsWith('models--');
  return { folder: source, linkRoot: isSnapshot ? repository : undefined };
}
