import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { SafetensorsError, type SafetensorsErrorCode } from './errors.js';

/** Helpers of this folder's tests. */

/** A file made of a header's text (padded to 8 bytes) and zeros, or given bytes, as data. */
export function rawFile(header: string | Uint8Array, data: number | Uint8Array = 0): Uint8Array {
  const text = typeof header === 'string' ? new TextEncoder().encode(header) : header;
  const length = Math.ceil(text.length / 8) * 8;
  const tail = typeof data === 'number' ? new Uint8Array(data) : data;
  const bytes = new Uint8Array(8 + length + tail.length).fill(0x20, 8, 8 + length);
  new DataView(bytes.buffer).setBigUint64(0, BigInt(length), true);
  bytes.set(text, 8);
  bytes.set(tail, 8 + length);
  return bytes;
}

/** Runs `use` with a fresh folder that is removed afterwards. */
export async function withFolder<T>(use: (folder: string) => Promise<T>): Promise<T> {
  const folder = await mkdtemp(join(tmpdir(), 'safetensors-test-'));
  try {
    return await use(folder);
  } finally {
    await rm(folder, { recursive: true, force: true });
  }
}

/** The `SafetensorsError` that `run` fails with; fails the test when it doesn't, or with another code. */
export async function failure(run: () => unknown, code?: SafetensorsErrorCode): Promise<SafetensorsError> {
  try {
    await run();
  } catch (error) {
    if (!SafetensorsError.is(error)) throw error;
    if (code !== undefined && error.code !== code) {
      throw new Error(`expected code ${code}, got ${error.code}: ${error.message}`);
    }
    return error;
  }
  throw new Error(
    `expected a SafetensorsError${code === undefined ? '' : ` with code ${code}`}, but nothing was thrown`,
  );
}
