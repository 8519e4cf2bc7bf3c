import { toFloat32 } from './convert.js';
import type { SafetensorsDtype } from './dtypes.js';
import { SafetensorsError, show } from './errors.js';
import {
  type ParseHeaderOptions,
  parseHeader,
  parseHeaderLength,
  type SafetensorsHeader,
  type TensorEntry,
} from './format.js';
import { type ByteSource, fillExactly, readExactly } from './source.js';

/** What is known of a tensor without reading its data. */
export interface TensorInfo {
  readonly name: string;
  readonly dtype: SafetensorsDtype;
  /** Sizes per dimension, outermost first; empty for a scalar. */
  readonly shape: readonly number[];
  /** Size of the data in bytes. */
  readonly byteLength: number;
  /** The file that holds it, where the file has a name; several tensors are read fastest in the order of their bytes. */
  readonly file: string | undefined;
  /** Where its data begin in that file, in bytes. */
  readonly fileOffset: number;
}

/** Options of `readBytes`. */
export interface ReadBytesOptions {
  /** First byte of the tensor's data to read. Default 0. */
  begin?: number;
  /** Byte after the last to read. Default: the tensor's size. */
  end?: number;
}

/** Options of `stream`. */
export interface StreamOptions {
  /** Largest chunk in bytes; rounded down to a multiple of 8, so that no element is split. Default 8 MiB. */
  chunkBytes?: number;
}

/** Tensors by name: one file, or the shards of a folder. Nothing is read before it is asked for. */
export interface TensorReader extends AsyncDisposable {
  /** Every tensor's name, in the order of the file (of the index, for a folder). */
  readonly names: readonly string[];
  /** The files' free strings; empty if there are none. */
  readonly metadata: ReadonlyMap<string, string>;
  has(name: string): boolean;
  /** Throws SafetensorsError "missing_tensor". */
  info(name: string): TensorInfo;
  /**
   * The tensor's little-endian bytes, or a part of them. The caller owns the
   * result, unless the source is memory: then it is a view of that memory.
   * Throws SafetensorsError "missing_tensor", "truncated", "limit", "argument", "closed" or "io".
   */
  readBytes(name: string, options?: ReadBytesOptions): Promise<Uint8Array>;
  /**
   * Fills memory that the caller reuses with the tensor's bytes from `begin` (default 0) on.
   * Throws what `readBytes` throws; "argument" when fewer bytes are left than fit.
   */
  readInto(name: string, target: Uint8Array, begin?: number): Promise<void>;
  /**
   * The tensor as float32 [product of shape], converted as by `toFloat32`. The caller owns the result.
   * Throws what `readBytes` throws, and "dtype" for `F8_*`.
   */
  readFloat32(name: string): Promise<Float32Array>;
  /**
   * The tensor's bytes in order, in chunks, with one chunk in memory at a time.
   * Each chunk is owned as by `readBytes`. Throws what `readBytes` throws.
   */
  stream(name: string, options?: StreamOptions): AsyncIterableIterator<Uint8Array>;
  /** Closes the files. Later reads throw "closed"; closing again does nothing. */
  close(): Promise<void>;
}

/** One safetensors file over any `ByteSource`. */
export class SafetensorsFile implements TensorReader {
  readonly names: readonly string[];
  readonly metadata: ReadonlyMap<string, string>;
  readonly #source: ByteSource;
  readonly #header: SafetensorsHeader;
  #closed = false;

  private constructor(source: ByteSource, header: SafetensorsHeader) {
    this.#source = source;
    this.#header = header;
    this.names = Object.freeze([...header.tensors.keys()]);
    this.metadata = header.metadata;
  }

  /**
   * Reads and checks the header. The file then owns the source and closes it
   * with itself; on failure the source is closed at once.
   *
   * @throws SafetensorsError as `parseHeader`
   */
  static async open(source: ByteSource, options: ParseHeaderOptions = {}): Promise<SafetensorsFile> {
    const parse = { file: source.name, ...options };
    try {
      const start = await readExactly(source, 0, Math.min(8, source.size));
      const length = parseHeaderLength(start, source.size, parse);
      const bytes = await readExactly(source, 0, 8 + length);
      return new SafetensorsFile(source, parseHeader(bytes, source.size, parse));
    } catch (error) {
      await source.close?.();
      throw error;
    }
  }

  has(name: string): boolean {
    return this.#header.tensors.has(name);
  }

  info(name: string): TensorInfo {
    const { dtype, shape, begin, end } = this.#entry(name);
    const fileOffset = this.#header.dataStart + begin;
    return { name, dtype, shape, byteLength: end - begin, file: this.#source.name, fileOffset };
  }

  async readBytes(name: string, options: ReadBytesOptions = {}): Promise<Uint8Array> {
    const { begin = 0, end } = options;
    const [first, last] = this.#range('readBytes', name, begin, end);
    if (first === last) return new Uint8Array(0);
    return readExactly(this.#source, first, last, name);
  }

  async readInto(name: string, target: Uint8Array, begin = 0): Promise<void> {
    const [first] = this.#range('readInto', name, begin, begin + target.length);
    if (target.length > 0) await fillExactly(this.#source, target, first, name);
  }

  async readFloat32(name: string): Promise<Float32Array> {
    const { dtype } = this.#entry(name);
    const bytes = await this.readBytes(name);
    try {
      const values = toFloat32(bytes, dtype);
      return this.#source.shared === true && values.buffer === bytes.buffer ? values.slice() : values;
    } catch (cause) {
      throw namedFailure(cause, this.#source.name, name);
    }
  }

  async *stream(name: string, options: StreamOptions = {}): AsyncIterableIterator<Uint8Array> {
    const { chunkBytes = 8 * 2 ** 20 } = options;
    if (!(chunkBytes >= 8)) {
      throw new SafetensorsError('argument', {
        problem: 'stream: chunkBytes is too small',
        tensor: name,
        expected: 'at least 8',
        got: String(chunkBytes),
      });
    }
    const size = this.info(name).byteLength;
    const step = Math.floor(chunkBytes / 8) * 8;
    for (let begin = 0; begin < size; begin += step) {
      yield await this.readBytes(name, { begin, end: Math.min(begin + step, size) });
    }
  }

  async close(): Promise<void> {
    if (this.#closed) return;
    this.#closed = true;
    await this.#source.close?.();
  }

  [Symbol.asyncDispose](): Promise<void> {
    return this.close();
  }

  #entry(name: string): TensorEntry {
    const entry = this.#header.tensors.get(name);
    if (entry === undefined) throw missingTensor(name, this.names, this.#source.name);
    return entry;
  }

  /** Where a part of a tensor lies in the file. */
  #range(method: string, name: string, begin: number, given: number | undefined): [number, number] {
    const entry = this.#entry(name);
    const size = entry.end - entry.begin;
    const end = given ?? size;
    if (!Number.isInteger(begin) || !Number.isInteger(end) || begin < 0 || begin > end || end > size) {
      throw new SafetensorsError('argument', {
        problem: `${method}: begin and end don't lie inside the tensor`,
        file: this.#source.name,
        tensor: name,
        expected: `0 ≤ begin ≤ end ≤ ${size}`,
        got: `begin ${begin}, end ${end}`,
      });
    }
    this.#assertOpen(name);
    const start = this.#header.dataStart + entry.begin;
    return [start + begin, start + end];
  }

  #assertOpen(tensor: string): void {
    if (!this.#closed) return;
    throw new SafetensorsError('closed', {
      problem: 'the file was closed before this read',
      file: this.#source.name,
      tensor,
      fix: 'Read before close(), or open the file again',
    });
  }
}

/** The error for an unknown name, with a few of the names there are. */
export function missingTensor(name: string, names: readonly string[], file: string | undefined): SafetensorsError {
  const tail = name.slice(name.lastIndexOf('.', name.length - 8) + 1);
  const alike = names.filter((candidate) => candidate.endsWith(tail));
  const examples = (alike.length > 0 ? alike : names).slice(0, 3).map(show);
  return new SafetensorsError('missing_tensor', {
    problem: 'there is no tensor of this name',
    file,
    tensor: name,
    expected:
      names.length === 0 ? 'a file with tensors' : `one of ${names.length} names such as ${examples.join(', ')}`,
    fix: 'List .names to see them all',
  });
}

/** A conversion's failure with the file and tensor it was about; an allocation's failure as "limit". */
function namedFailure(cause: unknown, file: string | undefined, tensor: string): unknown {
  if (SafetensorsError.is(cause)) {
    const problem = cause.message.replace(/^safetensors: /, '').replace(/\.$/, '');
    return new SafetensorsError(cause.code, { problem, file, tensor, cause });
  }
  if (!(cause instanceof RangeError)) return cause;
  const fix = 'Use stream() and convert chunk by chunk';
  return new SafetensorsError('limit', {
    problem: "the float32 copy doesn't fit in one array",
    file,
    tensor,
    fix,
    cause,
  });
}
