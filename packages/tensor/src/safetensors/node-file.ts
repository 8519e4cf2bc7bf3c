import { nodeFs } from '../node-modules.js';
import { fromSystemError, SafetensorsError } from './errors.js';
import type { ByteSource } from './source.js';

/** A file of the local disk, held open. */
export interface NodeFileSource extends ByteSource, AsyncDisposable {
  readonly name: string;
  close(): Promise<void>;
}

/** Node refuses single reads of 2 GiB and more. */
const largestRead = 2 ** 30;

/**
 * Opens a file for random access; Node only. The caller closes it (or the
 * `SafetensorsFile` that takes it does).
 *
 * @throws SafetensorsError "not_found", or "io" (also for folders, pipes and devices)
 */
export async function nodeFileSource(path: string): Promise<NodeFileSource> {
  const { open, stat } = await nodeFs();
  try {
    // Looked at before it is opened, since opening a pipe would wait for a writer for ever.
    if (!(await stat(path)).isFile()) {
      throw new SafetensorsError('io', { problem: "opening failed, this isn't a regular file", file: path });
    }
    const handle = await open(path, 'r');
    const { size } = await handle.stat().catch(async (error: unknown) => {
      await handle.close();
      throw error;
    });
    let closing: Promise<void> | undefined;
    const close = (): Promise<void> => (closing ??= handle.close());
    const readInto = async (target: Uint8Array, begin: number): Promise<number> => {
      let done = 0;
      try {
        while (done < target.length) {
          const length = Math.min(target.length - done, largestRead);
          const { bytesRead } = await handle.read(target, done, length, begin + done);
          if (bytesRead === 0) break;
          done += bytesRead;
        }
      } catch (error) {
        throw fromSystemError(error, path, 'reading');
      }
      return done;
    };
    const read = async (begin: number, end: number): Promise<Uint8Array> => {
      const bytes = new Uint8Array(end - begin);
      const done = await readInto(bytes, begin);
      return done === bytes.length ? bytes : bytes.subarray(0, done);
    };
    return { name: path, size, read, readInto, close, [Symbol.asyncDispose]: close };
  } catch (error) {
    throw fromSystemError(error, path, 'opening');
  }
}
