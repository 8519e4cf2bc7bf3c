import { readFile } from 'node:fs/promises';
import { join } from 'node:path';

/** Documents of one split as token ids. */
export interface TokenSplit {
  readonly documents: readonly Uint16Array[];
}

/**
 * Reads a split that `zebra-example-corpus`'s export command wrote (flat uint16 ids and uint32 offsets): what a GPU
 * host without a tokenizer trains from.
 */
export async function readTokenSplit(folder: string, split: string): Promise<TokenSplit> {
  const ids = await typed(join(folder, `${split}.tokens.bin`), Uint16Array);
  const offsets = await typed(join(folder, `${split}.offsets.bin`), Uint32Array);
  return { documents: Array.from({ length: offsets.length - 1 }, (_, i) => ids.subarray(offsets[i], offsets[i + 1])) };
}

async function typed<T>(path: string, make: new (buffer: ArrayBuffer) => T): Promise<T> {
  const bytes = await readFile(path);
  return new make(bytes.buffer.slice(bytes.byteOffset, bytes.byteOffset + bytes.byteLength) as ArrayBuffer);
}
