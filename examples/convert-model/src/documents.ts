import { readFile } from 'node:fs/promises';
import type { Tokenizer } from '@zebra/runtime';
import { ZebraError } from '@zebra/tensor';

/** Documents of a plain text: parts between blank lines, each closed by the end-of-text token where there is one. */
export async function documentsOfText(
  file: string,
  tokenizer: Tokenizer,
  end: number | undefined,
): Promise<Int32Array[]> {
  const parts = (await contentOf('text', file))
    .toString('utf8')
    .split(/\n\s*\n/)
    .filter((part) => part.trim() !== '');
  return checked(
    file,
    parts.map((part) => Int32Array.from([...tokenizer.encode(part), ...(end === undefined ? [] : [end])])),
  );
}

/** Documents of a file of little-endian int32 token ids, of which a negative one ends a document. */
export async function documentsOfIds(file: string): Promise<Int32Array[]> {
  const bytes = await contentOf('ids', file);
  if (bytes.byteLength % 4 !== 0) {
    throw new ZebraError('data', `${file}: ${bytes.byteLength} bytes are no whole number of int32 ids`);
  }
  const ids = Int32Array.from({ length: bytes.byteLength / 4 }, (_, i) => bytes.readInt32LE(4 * i));
  const documents: Int32Array[] = [];
  let start = 0;
  for (let i = 0; i <= ids.length; i++) {
    if (i < ids.length && ids[i]! >= 0) continue;
    documents.push(ids.subarray(start, i));
    start = i + 1;
  }
  return checked(file, documents);
}

async function contentOf(option: string, file: string): Promise<Buffer> {
  try {
    return await readFile(file);
  } catch (cause) {
    const { code, message } = cause as NodeJS.ErrnoException;
    throw new ZebraError('io', `--${option} ${file} cannot be read: ${code ?? message}`, { cause });
  }
}

/** Documents that predict something. */
function checked(file: string, documents: readonly Int32Array[]): Int32Array[] {
  const long = documents.filter((document) => document.length > 1);
  if (long.length === 0) throw new ZebraError('data', `${file} holds no document of two tokens or more`);
  return long;
}
