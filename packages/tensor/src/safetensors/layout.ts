import { dtypeRank } from './dtypes.js';
import { SafetensorsError, show } from './errors.js';
import { maxHeaderBytes } from './format.js';
import type { SizedTensor } from './tensor-input.js';

/** Strings to store in a header. A Map keeps its order; an object is taken in the order of its own keys. */
export type MetadataInput = ReadonlyMap<string, string> | Readonly<Record<string, string>>;

/** Options on a file's content, shared by all writers. */
export interface LayoutOptions {
  /** Free strings for `__metadata__`; left out when empty. Default: none. */
  metadata?: MetadataInput | undefined;
  /**
   * "reference" (default): the reference library's order, widest dtype first
   * and then by name, in which every tensor is aligned to its element size.
   * "given": the order of the iterable; then alignment is the caller's affair.
   */
  sort?: 'reference' | 'given' | undefined;
}

/** A file's header bytes and its tensors in the order of their data. */
export interface Layout {
  /** The 8 bytes of length and the header, padded with spaces to a multiple of 8. */
  header: Uint8Array;
  tensors: SizedTensor[];
  /** Size of the whole file. */
  fileBytes: number;
}

/** Plans a file. Throws SafetensorsError "argument" for metadata that aren't strings, "header_too_large", "limit". */
export function planLayout(tensors: readonly SizedTensor[], options: LayoutOptions, file: string | undefined): Layout {
  const sorted = options.sort === 'given' ? [...tensors] : [...tensors].sort(referenceOrder);
  const members: string[] = [];
  const metadata = metadataEntries(options.metadata, file);
  if (metadata.length > 0) {
    members.push(
      `"__metadata__":{${metadata.map(([key, text]) => `${JSON.stringify(key)}:${JSON.stringify(text)}`).join(',')}}`,
    );
  }
  let offset = 0;
  for (const { name, dtype, shape, byteLength } of sorted) {
    const end = offset + byteLength;
    // Built by hand, since an object would move integer-like names to the front.
    members.push(
      `${JSON.stringify(name)}:{"dtype":"${dtype}","shape":[${shape.join(',')}],"data_offsets":[${offset},${end}]}`,
    );
    offset = end;
  }
  const json = new TextEncoder().encode(`{${members.join(',')}}`);
  const length = Math.ceil(json.length / 8) * 8;
  if (length > maxHeaderBytes || !Number.isSafeInteger(8 + length + offset)) {
    throw new SafetensorsError(length > maxHeaderBytes ? 'header_too_large' : 'limit', {
      problem: length > maxHeaderBytes ? 'the header would be too long' : 'the file would be too large',
      file,
      expected: length > maxHeaderBytes ? `at most ${maxHeaderBytes} bytes` : 'less than 2^53 bytes',
      got: `${length > maxHeaderBytes ? length : offset} bytes`,
      fix: 'Split the tensors or metadata over several files',
    });
  }
  const header = new Uint8Array(8 + length).fill(0x20);
  new DataView(header.buffer).setBigUint64(0, BigInt(length), true);
  header.set(json, 8);
  return { header, tensors: sorted, fileBytes: 8 + length + offset };
}

function metadataEntries(metadata: MetadataInput | undefined, file: string | undefined): [string, string][] {
  if (metadata === undefined) return [];
  const entries =
    metadata instanceof Map
      ? [...(metadata as Map<string, string>)]
      : Object.entries(metadata as Record<string, string>);
  for (const [key, text] of entries) {
    if (typeof key === 'string' && typeof text === 'string' && !/\p{Surrogate}/u.test(key + text)) continue;
    throw new SafetensorsError('argument', {
      problem: `metadata entry ${show(key)} can't be stored`,
      file,
      expected: 'a string of whole Unicode characters',
      got: typeof text,
      fix: 'Store numbers and objects as JSON text',
    });
  }
  return entries;
}

/** Descending by dtype, then ascending by name as UTF-8 bytes compare. */
function referenceOrder(a: SizedTensor, b: SizedTensor): number {
  return dtypeRank(b.dtype) - dtypeRank(a.dtype) || compareCodePoints(a.name, b.name);
}

/** JavaScript compares UTF-16 units, which puts U+E000–U+FFFF after the characters beyond U+FFFF; UTF-8 doesn't. */
export function compareCodePoints(a: string, b: string): number {
  const length = Math.min(a.length, b.length);
  for (let i = 0; i < length; i++) {
    const unitA = a.charCodeAt(i);
    const unitB = b.charCodeAt(i);
    if (unitA === unitB) continue;
    const beyond = Number(unitA >= 0xd800 && unitA < 0xe000) - Number(unitB >= 0xd800 && unitB < 0xe000);
    return beyond || unitA - unitB;
  }
  return a.length - b.length;
}
