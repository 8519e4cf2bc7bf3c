import { nodeFs, nodePath } from '../node-modules.js';
import { fromSystemError, SafetensorsError, show } from './errors.js';
import { nodeFileSystem, type WriterFileSystem } from './file-system.js';
import { indexFileName, singleFileName } from './folder.js';
import { PendingFile } from './pending-file.js';

/**
 * Small text files that describe a model's tensors (its configs), by name; undefined for one that must not be there.
 * They change together with the tensors.
 */
export type Companions = ReadonlyMap<string, string | undefined>;

/**
 * Holds new companions while the tensors are switched over. Names cannot all change at one instant, so the tensors'
 * rename is the instant: this file says which tensors it belongs to, and whoever finds it beside those takes the
 * companions from it (`readCompanion`), beside others ignores it. The last step of a write removes it.
 */
export const switchFileName = '.zebra-switch.json';

interface Switch {
  /** The tensors' file that readers open first, and the time of its last change, in milliseconds since 1970. */
  readonly entry: string;
  readonly modified: number;
  /** Null for a file that must not be there. */
  readonly companions: Readonly<Record<string, string | null>>;
}

/** Throws SafetensorsError "argument" for names that are no plain file names, or the tensors' own. */
export function checkCompanions(companions: Companions, folder: string): void {
  for (const name of companions.keys()) {
    if (/^[\w-][\w.-]{0,199}$/.test(name) && !/\.safetensors(\.index\.json)?$/.test(name)) continue;
    throw new SafetensorsError('argument', {
      problem: `a companion can't have the name ${show(name)}`,
      file: folder,
      expected: 'a plain file name such as config.json',
    });
  }
}

/**
 * Reads a small file of a model's folder that was written as a companion of its tensors: also after a kill in the
 * middle of a write it is the one that belongs to the tensors that are there. Node only.
 *
 * @returns its text, undefined where there is none
 * @throws SafetensorsError "io"
 */
export async function readCompanion(folder: string, name: string): Promise<string | undefined> {
  const open = await openSwitch(folder);
  if (open && Object.hasOwn(open.companions, name)) return open.companions[name] ?? undefined;
  const { join } = await nodePath();
  return readText(join(folder, name));
}

/**
 * Finishes what a killed write of companions began, so that every file of the folder belongs to the tensors that are
 * there; does nothing in a folder without such a write. The next write does the same. Node only.
 *
 * @throws SafetensorsError "io", "disk_full"
 */
export async function finishWrite(folder: string): Promise<void> {
  await finishSwitch(folder, await nodeFileSystem());
}

/** Finishes what a killed write began, if its tensors are there. */
export async function finishSwitch(folder: string, fs: WriterFileSystem): Promise<void> {
  const { join } = await nodePath();
  const open = await openSwitch(folder);
  if (open) await publishAll(await prepareCompanions(folder, new Map(Object.entries(open.companions)), fs));
  if ((await readText(join(folder, switchFileName))) !== undefined) await fs.unlink(join(folder, switchFileName));
}

/** A write of companions, on the disk under temporary names. */
export interface PreparedCompanions {
  readonly folder: string;
  readonly fs: WriterFileSystem;
  readonly files: readonly PendingFile[];
  readonly gone: readonly string[];
}

/** Writes companions to the disk under temporary names. */
export async function prepareCompanions(
  folder: string,
  companions: ReadonlyMap<string, string | null | undefined>,
  fs: WriterFileSystem,
): Promise<PreparedCompanions> {
  const { join } = await nodePath();
  const files: PendingFile[] = [];
  const gone: string[] = [];
  try {
    for (const [name, text] of companions) {
      if (text === undefined || text === null) {
        gone.push(join(folder, name));
        continue;
      }
      files.push(await writePending(join(folder, name), text, fs));
    }
  } catch (error) {
    for (const file of files) await file.discard();
    throw error;
  }
  return { folder, fs, files, gone };
}

/** Puts the switch file beside the tensors that are about to be replaced. The folder is still to be synced. */
export async function announceSwitch(
  entry: PendingFile,
  entryName: string,
  companions: Companions,
  { folder, fs }: PreparedCompanions,
): Promise<void> {
  const { join } = await nodePath();
  const content: Switch = {
    entry: entryName,
    modified: await entry.modified(),
    companions: Object.fromEntries([...companions].map(([name, text]) => [name, text ?? null])),
  };
  const file = await writePending(join(folder, switchFileName), JSON.stringify(content), fs);
  try {
    await file.publish();
  } catch (error) {
    await file.discard();
    throw error;
  }
}

/** Gives companions their names. After a failure the switch file, where one was announced, still holds them all. */
export async function publishAll(prepared: PreparedCompanions): Promise<void> {
  try {
    for (const file of prepared.files) await file.publish();
  } finally {
    for (const file of prepared.files) await file.discard();
  }
  for (const path of prepared.gone) {
    await prepared.fs.unlink(path).catch((error: unknown) => {
      const failure = fromSystemError(error, path, 'removing what the old model had');
      if (failure.code !== 'not_found') throw failure;
    });
  }
}

async function writePending(path: string, text: string, fs: WriterFileSystem): Promise<PendingFile> {
  const file = await PendingFile.create(path, fs);
  try {
    await file.write(new TextEncoder().encode(text));
    await file.seal();
  } catch (error) {
    await file.discard();
    throw error;
  }
  return file;
}

/** The switch file, where the tensors that it belongs to are the ones that readers take. */
async function openSwitch(folder: string): Promise<Switch | undefined> {
  const { join } = await nodePath();
  const text = await readText(join(folder, switchFileName));
  if (text === undefined) return undefined;
  const content = parseSwitch(text);
  if (!content) return undefined;
  const single = await modifiedOf(join(folder, singleFileName));
  const [entry, modified] =
    single !== undefined ? [singleFileName, single] : [indexFileName, await modifiedOf(join(folder, indexFileName))];
  return entry === content.entry && modified === content.modified ? content : undefined;
}

/** Undefined for what was not written by `announceSwitch`: then it says nothing. */
function parseSwitch(text: string): Switch | undefined {
  try {
    const { entry, modified, companions } = JSON.parse(text) as Partial<Switch>;
    const values = Object.entries(companions ?? {});
    const isWhole = values.every(
      ([name, value]) => /^[\w-][\w.-]{0,199}$/.test(name) && (value === null || typeof value === 'string'),
    );
    if (typeof entry !== 'string' || typeof modified !== 'number' || values.length === 0 || !isWhole) return undefined;
    return { entry, modified, companions: companions as Switch['companions'] };
  } catch {
    return undefined;
  }
}

async function modifiedOf(path: string): Promise<number | undefined> {
  const { stat } = await nodeFs();
  return stat(path).then(
    ({ mtimeMs }) => mtimeMs,
    () => undefined,
  );
}

async function readText(path: string): Promise<string | undefined> {
  const { readFile } = await nodeFs();
  try {
    return await readFile(path, 'utf8');
  } catch (error) {
    const failure = fromSystemError(error, path, 'reading');
    if (failure.code === 'not_found') return undefined;
    throw failure;
  }
}
