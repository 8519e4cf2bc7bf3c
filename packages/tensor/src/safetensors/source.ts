import { SafetensorsError } from './errors.js';

/** Random access to the bytes of one file, wherever they lie. */
export interface ByteSource {
  /** Size in bytes; must not change while the source is in use. */
  readonly size: number;
  /**
   * Name for error messages, such as a path or URL.
   */
  readonly name?: string | undefined;
  /**
   * True if `read` returns views of memory that others hold too. Readers then
   * copy before they hand out arrays that their callers own. Default false.
   */
  readonly shared?: boolean | undefined;
  /** The bytes from `begin` up to, not including, `end`. Fewer mean that the file was cut short. */
  read(begin: number, end: number): Promise<Uint8Array>;
  /**
   * Reads the bytes from `begin` on into memory that the caller reuses, and says how many there were; fewer than fit
   * mean that the file was cut short. Default: by `read` and a copy.
   */
  readInto?(target: Uint8Array, begin: number): Promise<number>;
  /** Frees what the source holds. */
  close?(): Promise<void>;
}

/** A source over bytes in memory, which it views without a copy. */
export function memorySource(bytes: Uint8Array | ArrayBuffer, name?: string): ByteSource {
  const view = bytes instanceof Uint8Array ? bytes : new Uint8Array(bytes);
  return {
    size: view.length,
    name,
    shared: true,
    read: (begin, end) => Promise.resolve(view.subarray(begin, end)),
  };
}

/** A source over a browser's or Node's `Blob` or `File`. */
export function blobSource(blob: Blob, name?: string): ByteSource {
  return {
    size: blob.size,
    name: name ?? (blob as { name?: string }).name,
    read: async (begin, end) => new Uint8Array(await blob.slice(begin, end).arrayBuffer()),
  };
}

/** Reads exactly `end - begin` bytes. Throws "truncated" when fewer come, "limit" when they fit in no array. */
export async function readExactly(
  source: ByteSource,
  begin: number,
  end: number,
  tensor?: string,
): Promise<Uint8Array> {
  let bytes: Uint8Array;
  try {
    bytes = await source.read(begin, end);
  } catch (cause) {
    if (!(cause instanceof RangeError)) throw cause;
    throw new SafetensorsError('limit', {
      problem: `${end - begin} bytes don't fit in one array of this JavaScript engine`,
      file: source.name,
      tensor,
      fix: 'Use stream() and take the tensor in chunks',
      cause,
    });
  }
  if (bytes.length === end - begin) return bytes;
  throw cutShort(source, begin, end - begin, bytes.length, tensor);
}

/** Fills `target` with the bytes from `begin` on. Throws "truncated" when fewer come. */
export async function fillExactly(
  source: ByteSource,
  target: Uint8Array,
  begin: number,
  tensor?: string,
): Promise<void> {
  if (!source.readInto) {
    target.set(await readExactly(source, begin, begin + target.length, tensor));
    return;
  }
  const count = await source.readInto(target, begin);
  if (count !== target.length) throw cutShort(source, begin, target.length, count, tensor);
}

function cutShort(
  source: ByteSource,
  begin: number,
  expected: number,
  got: number,
  tensor: string | undefined,
): SafetensorsError {
  return new SafetensorsError('truncated', {
    problem: 'the file ended early; it was cut short after it was opened',
    file: source.name,
    tensor,
    expected: `${expected} bytes at ${begin}`,
    got: `${got} bytes`,
    fix: 'Open it again once nothing writes to it',
  });
}
