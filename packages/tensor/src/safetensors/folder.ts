import { nodeFs, nodePath } from '../node-modules.js';
import { fromSystemError, SafetensorsError, show } from './errors.js';
import { nodeFileSource } from './node-file.js';
import { SafetensorsFile, type TensorReader } from './reader.js';
import { parseShardIndex } from './shard-index.js';
import { ShardedSafetensors } from './sharded.js';

/** The file of a model that fits in one. */
export const singleFileName = 'model.safetensors';
/** The index of a model in shards. */
export const indexFileName = 'model.safetensors.index.json';
/** An index of a hundred thousand tensors is about 10 MB. */
const largestIndex = 100_000_000;

/** Options of `openSafetensorsFolder`. */
export interface OpenFolderOptions {
  /**
   * Folder below which the files that links point to must lie. A Hugging Face
   * cache's snapshots link to `../../blobs`: pass the repository's cache folder.
   * Default: the model's folder itself.
   */
  linkRoot?: string | undefined;
  /** Tensors that a shard holds and the index doesn't list: "error" (default) or "ignore". */
  unlisted?: 'error' | 'ignore' | undefined;
  /** Longest header accepted per file, in bytes. Default and maximum: 100 MB. */
  maxHeaderBytes?: number | undefined;
}

/**
 * Opens a model's folder: `model.safetensors` if there is one (it wins over an
 * index, as in the transformers library), else the shards of
 * `model.safetensors.index.json`. Only headers are read. Node only.
 *
 * @returns all tensors under one interface; the caller closes it
 * @throws SafetensorsError "not_found" if neither file is there; "shard_path" for names or links that leave the folder;
 *   what `parseHeader` throws for any file; what `ShardedSafetensors.join` throws, all problems in one error
 */
export async function openSafetensorsFolder(folder: string, options: OpenFolderOptions = {}): Promise<TensorReader> {
  const { join } = await nodePath();
  const root = await realFolder(folder);
  const roots = options.linkRoot === undefined ? [root] : [root, await realFolder(options.linkRoot)];
  const header = { maxHeaderBytes: options.maxHeaderBytes };

  const openFile = async (name: string): Promise<SafetensorsFile | undefined> => {
    const path = await resolveInside(join(root, name), roots);
    if (path === undefined) return undefined;
    return SafetensorsFile.open({ ...(await nodeFileSource(path)), name: join(folder, name) }, header);
  };

  const single = await openFile(singleFileName);
  if (single !== undefined) return single;

  const indexPath = join(folder, indexFileName);
  const realIndex = await resolveInside(join(root, indexFileName), roots);
  if (realIndex === undefined) {
    throw new SafetensorsError('not_found', {
      problem: `the folder holds neither ${singleFileName} nor ${indexFileName}`,
      file: folder,
      fix: 'Check the path, and that the download is complete',
    });
  }
  const index = parseShardIndex(await readIndexText(realIndex, indexPath), indexPath);
  const files = new Map<string, SafetensorsFile>();
  try {
    for (const shard of index.shards) {
      const file = await openFile(shard);
      if (file !== undefined) files.set(shard, file);
    }
    return ShardedSafetensors.join(index, files, { name: indexPath, unlisted: options.unlisted });
  } catch (error) {
    await Promise.all([...files.values()].map((file) => file.close()));
    throw error;
  }
}

/** An index file's text. Throws "limit" above 100 MB, "invalid_index" for bad UTF-8, "io". */
export async function readIndexText(path: string, name: string): Promise<string> {
  const source = await nodeFileSource(path);
  let bytes: Uint8Array;
  try {
    if (source.size > largestIndex) {
      throw new SafetensorsError('limit', {
        problem: 'the index is too large',
        file: name,
        expected: `at most ${largestIndex} bytes`,
        got: `${source.size} bytes`,
      });
    }
    bytes = await source.read(0, source.size);
  } finally {
    await source.close();
  }
  try {
    return new TextDecoder('utf-8', { fatal: true }).decode(bytes);
  } catch (cause) {
    throw new SafetensorsError('invalid_index', { problem: "the index isn't valid UTF-8", file: name, cause });
  }
}

async function realFolder(folder: string): Promise<string> {
  const { realpath } = await nodeFs();
  try {
    return await realpath(folder);
  } catch (error) {
    throw fromSystemError(error, folder, 'opening the folder');
  }
}

/**
 * The path with every link resolved, undefined if nothing is there. The file
 * is then opened by that path, so that changing the link afterwards has no effect.
 */
async function resolveInside(path: string, roots: readonly string[]): Promise<string | undefined> {
  const { realpath } = await nodeFs();
  const { isAbsolute, relative, sep } = await nodePath();
  let real: string;
  try {
    real = await realpath(path);
  } catch (error) {
    const failure = fromSystemError(error, path, 'opening');
    if (failure.code === 'not_found') return undefined;
    throw failure;
  }
  const inside = roots.some((root) => {
    const way = relative(root, real);
    return way !== '' && way !== '..' && !way.startsWith(`..${sep}`) && !isAbsolute(way);
  });
  if (inside) return real;
  throw new SafetensorsError('shard_path', {
    problem: 'the file is a link that leaves the folder',
    file: path,
    expected: `a target below ${roots.map(show).join(' or ')}`,
    got: show(real),
    fix: 'If the target is trusted (a Hugging Face cache, say), pass the folder that holds it as linkRoot',
  });
}
