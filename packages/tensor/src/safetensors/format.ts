import { dtypeBytes, dtypes, elementCount, isDtype, type SafetensorsDtype } from './dtypes.js';
import { SafetensorsError } from './errors.js';
import { describeJson, parseStrictJson, type StrictJson, StrictJsonError } from './strict-json.js';
import { checkTiling } from './tiling.js';

/** The reference library's limit on a header's length, in bytes. */
export const maxHeaderBytes = 100_000_000;

/** Where one tensor lies. `begin` and `end` count bytes from the start of the data, not of the file. */
export interface TensorEntry {
  readonly dtype: SafetensorsDtype;
  /** Sizes per dimension, outermost first; empty for a scalar. */
  readonly shape: readonly number[];
  readonly begin: number;
  readonly end: number;
}

/** A header that passed every check: its tensors tile the data exactly. */
export interface SafetensorsHeader {
  /** By name, in the header's order. */
  readonly tensors: ReadonlyMap<string, TensorEntry>;
  /** The free strings under `__metadata__`; empty if there are none. */
  readonly metadata: ReadonlyMap<string, string>;
  /** Position in the file of the data's first byte. */
  readonly dataStart: number;
  /** Length of the data in bytes. */
  readonly dataBytes: number;
}

/** Options of the header functions. */
export interface ParseHeaderOptions {
  /** Name of the file for error messages. Default: none. */
  file?: string | undefined;
  /** Longest header accepted, in bytes. Default and maximum: 100 MB. */
  maxHeaderBytes?: number | undefined;
}

/**
 * Reads the little-endian 64-bit header length at the start of a file.
 *
 * @param bytes the file's first 8 bytes, or more
 * @param fileSize the file's size in bytes
 * @returns the header's length in bytes, without the 8 bytes of the length itself
 * @throws SafetensorsError "truncated" or "header_too_large"
 */
export function parseHeaderLength(bytes: Uint8Array, fileSize: number, options: ParseHeaderOptions = {}): number {
  const { file } = options;
  const limit = Math.min(options.maxHeaderBytes ?? maxHeaderBytes, maxHeaderBytes);
  if (!Number.isSafeInteger(fileSize) || fileSize < 0) {
    throw new SafetensorsError('argument', {
      problem: "fileSize isn't a size in bytes",
      file,
      expected: 'a non-negative integer',
      got: String(fileSize),
    });
  }
  if (bytes.length < 8 || fileSize < 8) {
    throw new SafetensorsError('truncated', {
      problem: 'the file is too short to hold a header length',
      file,
      expected: 'at least 8 bytes',
      got: `${Math.min(bytes.length, fileSize)} bytes`,
      fix: 'Fetch the file again',
    });
  }
  const view = new DataView(bytes.buffer, bytes.byteOffset, 8);
  const length = view.getUint32(4, true) * 2 ** 32 + view.getUint32(0, true);
  if (length > limit) {
    throw new SafetensorsError('header_too_large', {
      problem: 'the declared header length is above the limit',
      file,
      expected: `at most ${limit} bytes`,
      got: `${length} bytes`,
      fix: 'Check that this is a safetensors file and not, say, a web page or a Git LFS pointer',
    });
  }
  if (length > fileSize - 8) {
    throw new SafetensorsError('truncated', {
      problem: 'the file ends inside its header',
      file,
      expected: `at least ${length + 8} bytes`,
      got: `${fileSize} bytes`,
      fix: 'Fetch the file again',
    });
  }
  return length;
}

/**
 * Parses and checks a header. Everything the format promises is verified, so
 * later reads need no further bounds checks: offsets lie inside the data, agree
 * with dtype × shape, don't overlap and leave no byte unclaimed.
 *
 * @param bytes the file from its start to at least the end of its header
 * @param fileSize the file's size in bytes; default `bytes.length`
 * @throws SafetensorsError "truncated", "header_too_large", "invalid_header", "duplicate",
 *   "dtype", "shape", "bad_offsets", "overlap" or "hole"
 *
 * Format: https://github.com/huggingface/safetensors#format
 */
export function parseHeader(
  bytes: Uint8Array,
  fileSize: number = bytes.length,
  options: ParseHeaderOptions = {},
): SafetensorsHeader {
  const { file } = options;
  const length = parseHeaderLength(bytes, fileSize, options);
  if (bytes.length < 8 + length) {
    throw new SafetensorsError('argument', {
      problem: 'parseHeader was given only a part of the header',
      file,
      expected: `at least ${8 + length} bytes`,
      got: `${bytes.length} bytes`,
    });
  }
  const members = parseHeaderJson(bytes.subarray(8, 8 + length), file);
  const tensors = new Map<string, TensorEntry>();
  let metadata: ReadonlyMap<string, string> = new Map();
  for (const [name, value] of members) {
    if (name === '__metadata__') metadata = readMetadata(value, file);
    else tensors.set(name, readEntry(name, value, file));
  }
  const dataStart = 8 + length;
  const dataBytes = fileSize - dataStart;
  checkTiling(tensors, dataBytes, file);
  return { tensors, metadata, dataStart, dataBytes };
}

function parseHeaderJson(bytes: Uint8Array, file: string | undefined): Map<string, StrictJson> {
  if (bytes[0] !== 0x7b) {
    throw new SafetensorsError('invalid_header', {
      problem: "the header doesn't start as a JSON object",
      file,
      expected: 'the byte 0x7b ({)',
      got: bytes[0] === undefined ? 'an empty header' : `0x${bytes[0].toString(16).padStart(2, '0')}`,
      fix: 'Check that this is a safetensors file',
    });
  }
  let text: string;
  try {
    text = new TextDecoder('utf-8', { fatal: true, ignoreBOM: true }).decode(bytes);
  } catch (cause) {
    throw new SafetensorsError('invalid_header', { problem: "the header isn't valid UTF-8", file, cause });
  }
  try {
    // The first byte is "{", so the value is an object.
    return parseStrictJson(text) as Map<string, StrictJson>;
  } catch (cause) {
    if (!(cause instanceof StrictJsonError)) throw cause;
    throw new SafetensorsError(cause.kind === 'duplicate' ? 'duplicate' : 'invalid_header', {
      problem: `the header isn't valid JSON: ${cause.message.slice(0, 300)}`,
      file,
      tensor: cause.key,
      cause,
    });
  }
}

function readMetadata(value: StrictJson, file: string | undefined): ReadonlyMap<string, string> {
  const bad = (what: string, got: StrictJson): SafetensorsError =>
    new SafetensorsError('invalid_header', {
      problem: what,
      file,
      expected: 'an object of strings',
      got: describeJson(got),
    });
  if (!(value instanceof Map)) throw bad('__metadata__ has the wrong form', value);
  for (const [key, text] of value) {
    if (typeof text !== 'string')
      throw bad(`__metadata__ entry ${JSON.stringify(key.slice(0, 80))} isn't a string`, text);
  }
  return value as Map<string, string>;
}

function readEntry(name: string, value: StrictJson, file: string | undefined): TensorEntry {
  const at = { file, tensor: name };
  if (!(value instanceof Map)) {
    throw new SafetensorsError('invalid_header', {
      ...at,
      problem: 'the header entry has the wrong form',
      expected: 'an object with dtype, shape and data_offsets',
      got: describeJson(value),
    });
  }
  const dtype = value.get('dtype');
  if (!isDtype(dtype)) {
    throw new SafetensorsError('dtype', {
      ...at,
      problem: 'unknown dtype',
      expected: `one of ${dtypes.join(', ')}`,
      got: describeJson(dtype),
      fix: 'Convert the file to one of these types',
    });
  }
  const shape = value.get('shape');
  const sizes = Array.isArray(shape) && shape.every((size) => typeof size === 'number') ? shape : undefined;
  const bytes = (sizes === undefined ? NaN : (elementCount(sizes) ?? NaN)) * dtypeBytes(dtype);
  if (sizes === undefined || !Number.isSafeInteger(bytes)) {
    throw new SafetensorsError('shape', {
      ...at,
      problem: "the shape isn't usable",
      expected: 'an array of non-negative integers whose size in bytes is below 2^53',
      got: describeJson(shape),
    });
  }
  const offsets = value.get('data_offsets');
  const [begin, end] = Array.isArray(offsets) && offsets.length === 2 ? offsets : [];
  if (typeof begin !== 'number' || typeof end !== 'number' || begin > end) {
    throw new SafetensorsError('bad_offsets', {
      ...at,
      problem: "data_offsets aren't usable",
      expected: '[begin, end], two non-negative integers below 2^53 with begin ≤ end',
      got: describeJson(offsets),
    });
  }
  if (end - begin !== bytes) {
    throw new SafetensorsError('bad_offsets', {
      ...at,
      problem: `data_offsets contradict dtype ${dtype} and shape ${describeJson(sizes)}`,
      expected: `${bytes} bytes`,
      got: `${end - begin} bytes`,
    });
  }
  return Object.freeze({ dtype, shape: Object.freeze(sizes), begin, end });
}
