import { nodePath } from '../node-modules.js';
import { fromSystemError, SafetensorsError } from './errors.js';
import { nodeFileSystem, type WriterFileSystem } from './file-system.js';
import { type Layout, type LayoutOptions, planLayout } from './layout.js';
import { PendingFile, sweepTemporaryFiles } from './pending-file.js';
import { checkTensors, type TensorInput, tensorChunks } from './tensor-input.js';

/** How far a write has come. */
export interface WriteProgress {
  /** Bytes written so far, headers included. */
  writtenBytes: number;
  /** Bytes that there will be in the end. */
  totalBytes: number;
  /** The tensor last written to. */
  tensor: string;
}

/** Options of the writers to disk. */
export interface WriteOptions extends LayoutOptions {
  /** Called after each piece written, at most once per 256 MiB within a tensor. Default: none. */
  onProgress?: ((progress: WriteProgress) => void) | undefined;
  /** The file system to write to. Default: the local disk. */
  fileSystem?: WriterFileSystem | undefined;
}

/**
 * Serialises tensors to the bytes of one file. Works in browsers.
 *
 * @param tensors read once; functions among their data are called one after the other, in the file's order
 * @returns a new array, owned by the caller, byte for byte what the reference library writes
 * @throws SafetensorsError "argument", "duplicate", "shape", "dtype", "data_length", "value", "header_too_large",
 *   "limit" if the file doesn't fit in one array; what the tensors' functions throw
 */
export async function serializeSafetensors(
  tensors: Iterable<TensorInput>,
  options: LayoutOptions = {},
): Promise<Uint8Array<ArrayBuffer>> {
  const layout = planLayout(checkTensors(tensors, undefined), options, undefined);
  let bytes: Uint8Array<ArrayBuffer>;
  try {
    bytes = new Uint8Array(layout.fileBytes);
  } catch (cause) {
    const fix = 'Use writeSafetensors, which streams to disk';
    throw new SafetensorsError('limit', { problem: `${layout.fileBytes} bytes don't fit in one array`, fix, cause });
  }
  let at = 0;
  for await (const { chunk } of fileChunks(layout, undefined)) {
    bytes.set(chunk, at);
    at += chunk.length;
  }
  return bytes;
}

/**
 * Writes one safetensors file. The bytes go to a temporary name in the same
 * folder and reach the disk before the file is renamed to `path`: whatever
 * happens, `path` holds either the old file or the whole new one. On failure
 * the temporary file is removed. Node only.
 *
 * @param path the file; its folder must exist, and a file of that name is replaced
 * @param tensors read once; functions among their data are called one after the other, in the file's order
 * @returns the file's size in bytes
 * @throws SafetensorsError as `serializeSafetensors`, and "disk_full", "not_found" or "io"; what the tensors' functions throw
 */
export async function writeSafetensors(
  path: string,
  tensors: Iterable<TensorInput>,
  options: WriteOptions = {},
): Promise<number> {
  const { basename, dirname } = await nodePath();
  const fs = options.fileSystem ?? (await nodeFileSystem());
  const layout = planLayout(checkTensors(tensors, path), options, path);
  const folder = dirname(path);
  try {
    await sweepTemporaryFiles(folder, fs, (name) => name === basename(path));
  } catch (error) {
    throw fromSystemError(error, folder, 'listing the folder');
  }
  const file = await PendingFile.create(path, fs);
  try {
    await writeLayout(file, layout, (writtenBytes, tensor) =>
      options.onProgress?.({ writtenBytes, totalBytes: layout.fileBytes, tensor }),
    );
    await file.publish();
  } catch (error) {
    await file.discard();
    throw error;
  }
  await syncFolder(folder, fs);
  return layout.fileBytes;
}

/** Writes and seals a planned file; `onWritten` gets the file's bytes so far. */
export async function writeLayout(
  file: PendingFile,
  layout: Layout,
  onWritten: (bytes: number, tensor: string) => void,
): Promise<void> {
  let written = 0;
  for await (const { chunk, tensor } of fileChunks(layout, file.path)) {
    for (let at = 0; at < chunk.length; at += 2 ** 28) {
      const piece = chunk.subarray(at, at + 2 ** 28);
      await file.write(piece);
      written += piece.length;
      if (tensor !== undefined) onWritten(written, tensor);
    }
  }
  await file.seal();
}

/** Makes the renames in a folder last. */
export async function syncFolder(folder: string, fs: WriterFileSystem): Promise<void> {
  try {
    await fs.syncFolder(folder);
  } catch (error) {
    throw fromSystemError(error, folder, 'bringing the folder to the disk');
  }
}

async function* fileChunks(
  layout: Layout,
  file: string | undefined,
): AsyncGenerator<{ chunk: Uint8Array; tensor?: string }> {
  yield { chunk: layout.header };
  for (const tensor of layout.tensors) {
    for await (const chunk of tensorChunks(tensor, file)) yield { chunk, tensor: tensor.name };
  }
}
