import type { FileHandle } from 'node:fs/promises';
import { ZebraError } from '@zebra/tensor';
import { diskError } from './cache.js';
import type { HubClient } from './client.js';
import { unreachable } from './errors.js';

/** A file of a repository, as the hub describes it. */
export interface RemoteFile {
  readonly name: string;
  /** Where the hub serves it. */
  readonly url: string;
  /** Without quotes: name of the blob. SHA-256 of large files, Git's hash of small ones. */
  readonly etag: string;
  readonly size: number;
}

/** A connection without a byte for this long counts as broken. */
const LONGEST_SILENCE = 60_000;

/** Asks for a file's hash and size, without its contents. */
export async function describeFile(client: HubClient, url: string, name: string, commit: string): Promise<RemoteFile> {
  // What answers may be the hub, with what a store elsewhere will serve: the token has no business there, and sizes of
  // compressed answers would be wrong.
  const { response, headers } = await client.request(url, {
    method: 'HEAD',
    headers: { 'accept-encoding': 'identity' },
    follow: 'same-origin',
  });
  if (response.status >= 400) await client.refuse(response);
  const last = response.headers;
  const find = (key: string) => last.get(key) ?? headers.map((each) => each.get(key)).find((value) => value !== null);
  const etag = (find('x-linked-etag') ?? last.get('etag') ?? '').replace(/^W\//, '').replaceAll('"', '');
  const size = Number(find('x-linked-size') ?? (response.ok ? last.get('content-length') : null) ?? Number.NaN);
  const served = find('x-repo-commit');
  if (!/^[A-Za-z0-9_-]{1,200}$/.test(etag) || !Number.isSafeInteger(size) || size < 0) {
    throw new ZebraError(
      'format',
      `hub: ${name}: the answer names no usable ETag and size (got ${JSON.stringify(etag.slice(0, 80))} and ${size}). See that the endpoint is a Hugging Face hub, or a mirror of one.`,
    );
  }
  if (served && served !== commit) {
    throw new ZebraError('format', `hub: ${name}: asked for commit ${commit}, the hub serves ${served.slice(0, 40)}.`);
  }
  return { name, url, etag, size };
}

/**
 * Downloads a file to `path`. Bytes go to `<path>.incomplete`, where a later call goes on; size and hash are checked
 * before it gets its name. Every byte is written at its own position, so that two processes at the same file write the
 * same.
 *
 * @param onBytes gets the bytes that are there, and how many of them just came
 * @throws ZebraError `io` for a hub that stays away, a refusal, or a disk that takes no more; `data` for contents that
 *   are not what their hash says, twice
 */
export async function downloadBlob(
  client: HubClient,
  file: RemoteFile,
  path: string,
  onBytes: (there: number, came: number) => void,
): Promise<void> {
  const { open, rename, stat } = await import('node:fs/promises');
  const { constants } = await import('node:fs');
  const incomplete = `${path}.incomplete`;
  const handle = await open(incomplete, constants.O_RDWR | constants.O_CREAT, 0o644).catch((cause) => {
    throw diskError(incomplete, cause);
  });
  try {
    await fill(client, file, handle, onBytes);
    await handle.sync();
  } finally {
    await handle.close();
  }
  try {
    await rename(incomplete, path);
  } catch (cause) {
    // Another process was first.
    if ((await stat(path).catch(() => undefined))?.size !== file.size) throw diskError(path, cause);
  }
}

async function fill(
  client: HubClient,
  file: RemoteFile,
  handle: FileHandle,
  onBytes: (there: number, came: number) => void,
): Promise<void> {
  const { retries, signal } = client.settings;
  let fruitless = 0;
  let damaged = 0;
  for (;;) {
    let have = (await handle.stat()).size;
    if (have > file.size) {
      await handle.truncate(0);
      have = 0;
    }
    onBytes(have, 0);
    let failure: unknown;
    if (have < file.size) {
      failure = await fetchRest(client, file, handle, have, onBytes);
      signal?.throwIfAborted();
      if (failure === undefined || (await handle.stat()).size > have) fruitless = 0;
      else if (fruitless++ >= retries) throw unreachable(file.url, failure);
    }
    if (failure === undefined) {
      if ((await handle.stat()).size === file.size && (await hasHash(handle, file))) return;
      await handle.truncate(0);
      if (++damaged >= 2) {
        throw new ZebraError(
          'data',
          `hub: ${file.name}: what came is not the file that its hash ${file.etag} names, twice. Try again later, or without the proxy or mirror in between.`,
        );
      }
    } else await client.pause(fruitless);
  }
}

/** Downloads from `have` on. Gives why the connection broke, undefined when all is there; throws what no retry mends. */
async function fetchRest(
  client: HubClient,
  file: RemoteFile,
  handle: FileHandle,
  have: number,
  onBytes: (there: number, came: number) => void,
): Promise<unknown> {
  const { signal } = client.settings;
  const silence = new AbortController();
  const stop = () => silence.abort(signal?.reason);
  signal?.addEventListener('abort', stop, { once: true });
  let timer: ReturnType<typeof setTimeout> | undefined;
  const watch = () => {
    clearTimeout(timer);
    timer = setTimeout(() => silence.abort(new Error(`no byte for ${LONGEST_SILENCE / 1000} s`)), LONGEST_SILENCE);
  };
  try {
    const { response } = await client.request(file.url, {
      headers: { 'accept-encoding': 'identity', ...(have > 0 && { range: `bytes=${have}-` }) },
      signal: silence.signal,
    });
    if (response.status === 416) {
      await response.body?.cancel().catch(() => undefined);
      await handle.truncate(0);
      return new Error('the server has no such range');
    }
    if (!response.ok) await client.refuse(response);
    let position = startOf(response, have);
    watch();
    for await (const chunk of response.body ?? []) {
      watch();
      if (position + chunk.length > file.size) {
        // Another file than the one described: no length and no hash will fit.
        await handle.truncate(0);
        return undefined;
      }
      await writeAt(handle, chunk, position, file.name);
      position += chunk.length;
      onBytes(position, chunk.length);
    }
    return position < file.size ? new Error(`the connection ended ${file.size - position} bytes early`) : undefined;
  } catch (error) {
    if (ZebraError.is(error)) throw error;
    return error;
  } finally {
    // Frees an answer that was not read to its end.
    silence.abort();
    clearTimeout(timer);
    signal?.removeEventListener('abort', stop);
  }
}

/** Position of an answer's first byte. A server may answer a range with the whole file. */
function startOf(response: Response, have: number): number {
  if (response.status !== 206) return 0;
  const start = Number(/^bytes (\d+)-/.exec(response.headers.get('content-range') ?? '')?.[1] ?? Number.NaN);
  // A later start would leave a hole.
  if (!(start <= have)) throw new Error('the server sent another range than was asked for');
  return start;
}

async function writeAt(handle: FileHandle, chunk: Uint8Array, position: number, name: string): Promise<void> {
  try {
    for (let done = 0; done < chunk.length; ) {
      done += (await handle.write(chunk, done, chunk.length - done, position + done)).bytesWritten;
    }
  } catch (cause) {
    throw diskError(name, cause);
  }
}

/** Whether contents are what the ETag says, where it is a hash. */
async function hasHash(handle: FileHandle, { etag, size }: RemoteFile): Promise<boolean> {
  const { createHash } = await import('node:crypto');
  const isGit = /^[0-9a-f]{40}$/.test(etag);
  if (!isGit && !/^[0-9a-f]{64}$/.test(etag)) return true;
  const hash = createHash(isGit ? 'sha1' : 'sha256');
  if (isGit) hash.update(`blob ${size}\0`);
  const buffer = new Uint8Array(1 << 20);
  for (let position = 0; position < size; ) {
    const { bytesRead } = await handle.read(buffer, 0, buffer.length, position);
    if (bytesRead === 0) return false;
    hash.update(buffer.subarray(0, bytesRead));
    position += bytesRead;
  }
  return hash.digest('hex') === etag;
}
