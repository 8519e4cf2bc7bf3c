import { nodePath } from '../node-modules.js';
import {
  announceSwitch,
  type Companions,
  checkCompanions,
  finishSwitch,
  type PreparedCompanions,
  prepareCompanions,
  publishAll,
  switchFileName,
} from './companions.js';
import { fromSystemError, SafetensorsError } from './errors.js';
import { nodeFileSystem, type WriterFileSystem } from './file-system.js';
import { indexFileName, readIndexText, singleFileName } from './folder.js';
import { compareCodePoints, planLayout } from './layout.js';
import { PendingFile, sweepTemporaryFiles } from './pending-file.js';
import { parseShardIndex } from './shard-index.js';
import { checkTensors, type SizedTensor, type TensorInput } from './tensor-input.js';
import { syncFolder, type WriteOptions, writeLayout } from './writer.js';

/** Options of `writeSafetensorsFolder`. */
export interface WriteFolderOptions extends WriteOptions {
  /** Largest size of a shard's data in bytes; a larger single tensor gets a shard of its own. Default 5 GB. */
  maxShardBytes?: number | undefined;
  /**
   * Small text files that describe the tensors and change with them, undefined for one to remove. Read them with
   * `readCompanion`. Default: none.
   */
  companions?: Companions | undefined;
}

/** What `writeSafetensorsFolder` wrote. */
export interface WrittenFolder {
  /** Names of the model's files, the index last if there is one. */
  files: string[];
  /** Size of the files together in bytes, without the index. */
  totalBytes: number;
  /** Names of the replaced model's files that could not be removed; they do no harm but take space. */
  leftovers: string[];
}

const modelFile = /^model(?:-g[0-9]+)?(?:-[0-9]+-of-[0-9]+)?\.safetensors(?:\.index\.json)?$/;
const shardFile = /^model(?:-g[0-9]+)?-[0-9]+-of-[0-9]+\.safetensors$/;

/**
 * Writes a model's folder: `model.safetensors` if everything fits in one
 * shard, else `model-00001-of-0000N.safetensors` and so on with
 * `model.safetensors.index.json`. Node only.
 *
 * A model that is there already is replaced at one instant: new shards get
 * names of their own (`model-g1-00001-of-…`) and reach the disk first, then
 * one rename switches over, then the old files go. A kill or a full disk at
 * any point leaves the old or the new model, whole, to `openSafetensorsFolder`.
 * The folder therefore holds both for a moment. Other files stay untouched.
 *
 * The order, each step on the disk before the next: everything new under temporary names; shards under their names;
 * with companions, `.zebra-switch.json`, which holds them; the one rename that switches the tensors over; companions
 * under their names; then the switch file and the old model go. A kill before the switch leaves the old model with its
 * companions, a kill after it the new one with its own (by `readCompanion`, and in the folder after the next write).
 *
 * @param folder created if it isn't there
 * @param tensors read once, split into shards in the given order; functions among their data are called one after the other
 * @throws SafetensorsError as `writeSafetensors`
 */
export async function writeSafetensorsFolder(
  folder: string,
  tensors: Iterable<TensorInput>,
  options: WriteFolderOptions = {},
): Promise<WrittenFolder> {
  const { maxShardBytes = 5_000_000_000, companions = new Map() } = options;
  if (!(maxShardBytes > 0)) {
    throw new SafetensorsError('argument', {
      problem: "writeSafetensorsFolder: maxShardBytes isn't usable",
      file: folder,
      expected: 'a positive number of bytes',
      got: String(maxShardBytes),
    });
  }
  checkCompanions(companions, folder);
  const { join } = await nodePath();
  const fs = options.fileSystem ?? (await nodeFileSystem());
  const groups = splitIntoShards(checkTensors(tensors, folder), maxShardBytes);
  const before = await prepareFolder(folder, fs, (name) => companions.has(name));
  const sharded = groups.length > 1;
  const names = sharded ? freeShardNames(groups.length, before) : [singleFileName];
  const layouts = groups.map((group, i) => planLayout(group, options, join(folder, names[i] as string)));
  const totalBytes = layouts.reduce((sum, layout) => sum + layout.fileBytes, 0);
  const oldShards = await shardsOfOldIndex(folder, before);

  const pending: PendingFile[] = [];
  const published: string[] = [];
  let prepared: PreparedCompanions | undefined;
  let announced = false;
  let switching = false;
  const add = async (name: string): Promise<PendingFile> => {
    const file = await PendingFile.create(join(folder, name), fs);
    pending.push(file);
    return file;
  };
  try {
    let done = 0;
    for (const [i, layout] of layouts.entries()) {
      const base = done;
      await writeLayout(await add(names[i] as string), layout, (bytes, tensor) =>
        options.onProgress?.({ writtenBytes: base + bytes, totalBytes, tensor }),
      );
      done += layout.fileBytes;
    }
    if (companions.size > 0) prepared = await prepareCompanions(folder, companions, fs);
    if (sharded) {
      const index = await add(indexFileName);
      await index.write(encodeIndex(groups, names));
      await index.seal();
      for (const file of pending.slice(0, -1)) {
        await file.publish();
        published.push(file.path);
      }
      await syncFolder(folder, fs);
    }
    const entry = pending.at(-1) as PendingFile;
    if (prepared) {
      announced = true;
      await announceSwitch(entry, sharded ? indexFileName : singleFileName, companions, prepared);
      await syncFolder(folder, fs);
    }
    // From here on a reader without model.safetensors sees the new model.
    switching = true;
    await entry.publish();
  } catch (error) {
    for (const file of [...pending, ...(prepared?.files ?? [])]) await file.discard();
    // The shards' names were free before, so these are ours alone. Once the last rename was tried they stay:
    // a network file system may report a failure of one that happened.
    const ours = announced ? [...published, join(folder, switchFileName)] : published;
    if (!switching) for (const path of ours) await fs.unlink(path).catch(() => undefined);
    throw error;
  }
  await syncFolder(folder, fs);

  const leftovers: string[] = [];
  if (sharded && before.has(singleFileName)) {
    // As long as it stands, readers take it for the model.
    try {
      await fs.unlink(join(folder, singleFileName));
    } catch (error) {
      throw fromSystemError(error, join(folder, singleFileName), 'removing the old model, which hides the new shards,');
    }
    await syncFolder(folder, fs);
  }
  if (prepared) {
    await publishAll(prepared);
    await syncFolder(folder, fs);
    await fs.unlink(join(folder, switchFileName)).catch(() => leftovers.push(switchFileName));
  }
  const index = !sharded && before.has(indexFileName) ? [indexFileName] : [];
  for (const name of [...index, ...oldShards]) {
    await fs.unlink(join(folder, name)).catch(() => leftovers.push(name));
  }
  return { files: sharded ? [...names, indexFileName] : names, totalBytes, leftovers };
}

/** In the given order; a shard is closed when the next tensor would make it too large. Always at least one. */
function splitIntoShards(tensors: readonly SizedTensor[], maxShardBytes: number): SizedTensor[][] {
  let shard: SizedTensor[] = [];
  const shards = [shard];
  let bytes = 0;
  for (const tensor of tensors) {
    if (shard.length > 0 && bytes + tensor.byteLength > maxShardBytes) {
      shard = [];
      shards.push(shard);
      bytes = 0;
    }
    shard.push(tensor);
    bytes += tensor.byteLength;
  }
  return shards;
}

/** Makes the folder, sweeps what killed writers left, and lists it. */
async function prepareFolder(
  folder: string,
  fs: WriterFileSystem,
  isOurs: (name: string) => boolean,
): Promise<Set<string>> {
  try {
    await fs.makeFolder(folder);
    await sweepTemporaryFiles(folder, fs, (name) => modelFile.test(name) || name === switchFileName || isOurs(name));
    await finishSwitch(folder, fs);
    return new Set(await fs.list(folder));
  } catch (error) {
    throw fromSystemError(error, folder, 'preparing the folder');
  }
}

/** The Hugging Face names if they are free, else the first generation `model-g1-…`, `model-g2-…` that is. */
function freeShardNames(count: number, taken: ReadonlySet<string>): string[] {
  const used = new Set([...taken].map((name) => name.toLowerCase()));
  for (let generation = 0; ; generation++) {
    const prefix = generation === 0 ? 'model' : `model-g${generation}`;
    const pad = (number: number): string => String(number).padStart(5, '0');
    const names = Array.from({ length: count }, (_, i) => `${prefix}-${pad(i + 1)}-of-${pad(count)}.safetensors`);
    if (!names.some((name) => used.has(name))) return names;
  }
}

/** The present model's shards that are safe to remove once it is replaced: plain shard names in its index. */
async function shardsOfOldIndex(folder: string, before: ReadonlySet<string>): Promise<string[]> {
  if (!before.has(indexFileName)) return [];
  const { join } = await nodePath();
  try {
    const path = join(folder, indexFileName);
    const { shards } = parseShardIndex(await readIndexText(path, path), path);
    return shards.filter((name) => shardFile.test(name) && before.has(name));
  } catch {
    // A broken old index must not stand in the way of a new model.
    return [];
  }
}

/** The index as the transformers library writes it: two spaces of indent, sorted names. */
function encodeIndex(groups: readonly SizedTensor[][], names: readonly string[]): Uint8Array {
  const totalSize = groups.flat().reduce((sum, tensor) => sum + tensor.byteLength, 0);
  const entries = groups.flatMap((group, i) => group.map(({ name }) => [name, names[i] as string] as const));
  entries.sort(([a], [b]) => compareCodePoints(a, b));
  const lines = entries.map(([name, shard]) => `    ${JSON.stringify(name)}: ${JSON.stringify(shard)}`);
  return new TextEncoder().encode(
    `{\n  "metadata": {\n    "total_size": ${totalSize}\n  },\n  "weight_map": {\n${lines.join(',\n')}\n  }\n}\n`,
  );
}
