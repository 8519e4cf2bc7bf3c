import { nodeUrl } from '../node-modules.js';
import { SafetensorsError } from './errors.js';
import type { ParseHeaderOptions } from './format.js';
import { nodeFileSource } from './node-file.js';
import { SafetensorsFile } from './reader.js';
import { type ByteSource, blobSource, memorySource } from './source.js';

/** What `openSafetensors` opens: a path or file URL (Node), bytes, a Blob, or a source of one's own. */
export type SafetensorsInput = string | URL | Uint8Array | ArrayBuffer | Blob | ByteSource;

/**
 * Opens one safetensors file; reads only its header.
 *
 * @param input a path or `file:` URL (Node only), bytes (viewed, not copied), a Blob or File, or a `ByteSource`
 * @returns the open file; the caller closes it (`await using`, or `close()`)
 * @throws SafetensorsError "not_found" or "io" for a path, and everything `parseHeader` throws
 */
export async function openSafetensors(
  input: SafetensorsInput,
  options: ParseHeaderOptions = {},
): Promise<SafetensorsFile> {
  return SafetensorsFile.open(await toSource(input, options.file), options);
}

async function toSource(input: SafetensorsInput, name: string | undefined): Promise<ByteSource> {
  if (typeof input === 'string') return nodeFileSource(input);
  if (input instanceof URL) {
    if (input.protocol === 'file:') {
      const { fileURLToPath } = await nodeUrl();
      return nodeFileSource(fileURLToPath(input));
    }
  } else {
    if (input instanceof Uint8Array || input instanceof ArrayBuffer) return memorySource(input, name);
    if (typeof Blob !== 'undefined' && input instanceof Blob) return blobSource(input, name);
    if (typeof (input as ByteSource).read === 'function') return input as ByteSource;
  }
  throw new SafetensorsError('argument', {
    problem: "openSafetensors: the input can't be opened",
    expected: 'a path, a file: URL, bytes, a Blob or a ByteSource',
    got: input instanceof URL ? input.protocol : typeof input,
    fix: input instanceof URL ? 'Download the file first, or pass a ByteSource that reads ranges' : undefined,
  });
}
