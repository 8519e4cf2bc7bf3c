import { sameShape, showShape } from '../core/shape.js';
import type { Tensor } from '../core/tensor.js';
import { ZebraError } from '../errors.js';
import { nodeFs, nodePath } from '../node-modules.js';
import type { AdamW, LossScaleState } from '../optim/index.js';
import { SafetensorsError } from '../safetensors/errors.js';
import { openSafetensors } from '../safetensors/open.js';
import type { SafetensorsFile } from '../safetensors/reader.js';
import type { TensorInput } from '../safetensors/tensor-input.js';
import { writeSafetensors } from '../safetensors/writer.js';
import type { JsonValue } from './batch-source.js';

/** Name of the checkpoint in its folder. */
export const CHECKPOINT_FILE = 'checkpoint.safetensors';

const FORMAT = 'zebra-training';
const VERSION = 1;
const NUMBERED = /^checkpoint-(\d+)\.safetensors$/;

/** What a run has to know, beside its tensors, to go on. */
export interface TrainerState {
  /** Steps done. */
  readonly step: number;
  /** Tokens that counted in the loss so far. */
  readonly tokens: number;
  /** Steps in a row, up to this one, whose loss or gradient was not finite. */
  readonly nonFinite: number;
  /** The data source's own state. */
  readonly data: JsonValue;
  /** Where the loss scale stands, in runs that have one. */
  readonly lossScale?: LossScaleState;
}

/** The tensors that a checkpoint is made of, and is read back into. */
export interface CheckpointTensors {
  readonly parameters: ReadonlyMap<string, Tensor>;
  readonly optimizer: AdamW;
}

/** Options of {@link saveCheckpoint}. */
export interface SaveCheckpointOptions {
  /** Older checkpoints to keep as `checkpoint-<step>.safetensors`, the one just written included. Default 0. */
  readonly keep?: number;
}

/**
 * Writes `checkpoint.safetensors` into a folder, which is made where it is missing: the parameters under their names,
 * the optimizer's moments as `optimizer.<name>.m` and `.v`, everything else as JSON in the metadata. The file comes
 * into being under another name, is brought to the disk and then renamed, so that a kill or a full disk leaves the
 * checkpoint that was there.
 *
 * @returns the file's path
 * @throws SafetensorsError `disk_full`, `io`
 */
export async function saveCheckpoint(
  folder: string,
  tensors: CheckpointTensors,
  state: TrainerState,
  options: SaveCheckpointOptions = {},
): Promise<string> {
  const { join } = await nodePath();
  const { mkdir } = await nodeFs();
  await mkdir(folder, { recursive: true });
  const path = join(folder, CHECKPOINT_FILE);
  const inputs = [...namedTensors(tensors)].map(
    ([name, tensor]): TensorInput => ({
      name,
      dtype: 'F32',
      shape: tensor.shape,
      // One tensor at a time is on the host.
      data: async () => (await tensor.read()) as Float32Array,
    }),
  );
  const metadata = {
    format: FORMAT,
    version: String(VERSION),
    state: JSON.stringify({ ...state, optimizerSteps: tensors.optimizer.stepCount }),
  };
  await writeSafetensors(path, inputs, { metadata });
  if (options.keep) await keepNumbered(folder, path, state.step, options.keep);
  return path;
}

/** Whether a folder holds a checkpoint: `resume: await hasCheckpoint(folder)` continues a run where there is one. */
export async function hasCheckpoint(folder: string): Promise<boolean> {
  const { join } = await nodePath();
  const { access } = await nodeFs();
  return access(join(folder, CHECKPOINT_FILE)).then(
    () => true,
    () => false,
  );
}

/**
 * Reads a checkpoint back into the parameters and the optimizer. Everything is checked before anything is written.
 *
 * @param from the folder, or the path of one `.safetensors` file
 * @param accept called with the state before any tensor is written; may throw to refuse it
 * @throws ZebraError `io` where there is none; `format` for another file or version, or for other parameters or shapes
 *   (all of them in one message); SafetensorsError for a damaged file
 */
export async function restoreCheckpoint(
  from: string,
  tensors: CheckpointTensors,
  accept?: (state: TrainerState) => void,
): Promise<TrainerState> {
  const { join } = await nodePath();
  const path = from.endsWith('.safetensors') ? from : join(from, CHECKPOINT_FILE);
  await using file = await open(path);
  const { optimizerSteps, ...state } = parseState(file, path);
  const expected = namedTensors(tensors);
  assertFits(path, file, expected);
  accept?.(state);
  for (const [name, tensor] of expected) tensor.write(await file.readFloat32(name));
  tensors.optimizer.stepCount = optimizerSteps;
  return state;
}

function namedTensors({ parameters, optimizer }: CheckpointTensors): Map<string, Tensor> {
  const all = new Map(parameters);
  for (const [name, moment] of optimizer.state()) all.set(`optimizer.${name}`, moment);
  return all;
}

async function open(path: string): Promise<SafetensorsFile> {
  try {
    return await openSafetensors(path);
  } catch (cause) {
    if (!SafetensorsError.is(cause) || cause.code !== 'not_found') throw cause;
    throw new ZebraError(
      'io',
      `resume: there is no checkpoint ${path}. Check the folder, or start the run without resume.`,
      { cause },
    );
  }
}

function parseState(file: SafetensorsFile, path: string): TrainerState & { readonly optimizerSteps: number } {
  const format = file.metadata.get('format');
  const version = file.metadata.get('version');
  if (format !== FORMAT) {
    throw new ZebraError('format', `resume: ${path} is no training checkpoint (its format is ${String(format)})`);
  }
  if (version !== String(VERSION)) {
    throw new ZebraError(
      'format',
      `resume: ${path} has version ${String(version)}, this package reads version ${VERSION}. Resume with the release that wrote it.`,
    );
  }
  let state: TrainerState & { readonly optimizerSteps: number };
  try {
    state = JSON.parse(file.metadata.get('state') ?? '');
  } catch (cause) {
    throw new ZebraError('format', `resume: the state in ${path} is no JSON`, { cause });
  }
  const counts = [state?.step, state?.tokens, state?.nonFinite, state?.optimizerSteps];
  if (!counts.every((count) => Number.isSafeInteger(count) && count >= 0) || state.data === undefined) {
    throw new ZebraError('format', `resume: the state in ${path} lacks a step count or the data's state`);
  }
  const { lossScale } = state;
  if (lossScale) {
    const { scale, goodSteps, skippedSteps } = lossScale;
    if (!(scale > 0 && goodSteps >= 0 && skippedSteps >= 0)) {
      throw new ZebraError('format', `resume: the state in ${path} has a loss scale that is none`);
    }
  }
  return state;
}

function assertFits(path: string, file: SafetensorsFile, expected: ReadonlyMap<string, Tensor>): void {
  const problems: string[] = [];
  for (const [name, tensor] of expected) {
    if (!file.has(name)) {
      problems.push(`missing ${name} ${showShape(tensor.shape)}`);
      continue;
    }
    const { shape, dtype } = file.info(name);
    if (!sameShape(shape, tensor.shape)) {
      problems.push(`${name} has shape ${showShape(shape)}, the parameter ${showShape(tensor.shape)}`);
    } else if (dtype !== 'F32') problems.push(`${name} is ${dtype}, expected F32`);
  }
  for (const name of file.names) if (!expected.has(name)) problems.push(`unexpected ${name}`);
  if (problems.length > 0) {
    throw new ZebraError(
      'format',
      `resume: ${path} was saved by a run with other parameters:\n  ${problems.join('\n  ')}`,
    );
  }
}

/** Gives the new checkpoint a second, numbered name, and removes the oldest numbered ones beyond `keep`. */
async function keepNumbered(folder: string, path: string, step: number, keep: number): Promise<void> {
  const { copyFile, link, readdir, rm, stat } = await nodeFs();
  const { join } = await nodePath();
  const numbered = join(folder, `checkpoint-${step}.safetensors`);
  await rm(numbered, { force: true });
  // A link costs nothing: the next checkpoint comes into being as a file of its own. Some file systems have none.
  await link(path, numbered).catch(() => copyFile(path, numbered));
  const found: { path: string; step: number; time: number }[] = [];
  for (const entry of await readdir(folder)) {
    const match = NUMBERED.exec(entry);
    if (!match) continue;
    const entryPath = join(folder, entry);
    found.push({ path: entryPath, step: Number(match[1]), time: (await stat(entryPath)).mtimeMs });
  }
  // By age and not by number, since a run may have been resumed from an earlier step.
  found.sort((a, b) => b.time - a.time || b.step - a.step);
  for (const old of found.slice(keep)) await rm(old.path, { force: true });
}
