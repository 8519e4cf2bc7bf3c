import { existsSync, mkdirSync, readFileSync, renameSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { SOURCES, type Source } from './documents.js';
import type { Split } from './split.js';
import { type TokenizedSplit, view } from './tokens.js';

/** What stands beside a split's `.bin` files; counts of documents, tokens and UTF-8 bytes of text. */
export interface SplitMeta {
  readonly documents: number;
  readonly tokens: number;
  readonly bytes: number;
  /** Documents, tokens and bytes of each source. */
  readonly sources: Partial<Record<Source, { documents: number; tokens: number; bytes: number }>>;
}

/** Counts a split. */
export function splitMeta(split: TokenizedSplit): SplitMeta {
  const sources: SplitMeta['sources'] = {};
  split.documents.forEach((ids, i) => {
    const source = split.sources[i];
    sources[source] ??= { documents: 0, tokens: 0, bytes: 0 };
    const entry = sources[source];
    entry.documents++;
    entry.tokens += ids.length;
    entry.bytes += split.bytes[i];
  });
  return {
    documents: split.documents.length,
    tokens: split.ids.length,
    bytes: split.bytes.reduce((sum, bytes) => sum + bytes, 0),
    sources,
  };
}

const bytesOf = (array: Uint8Array | Uint16Array | Uint32Array): Uint8Array =>
  new Uint8Array(array.buffer, array.byteOffset, array.byteLength);

/**
 * Writes a split as flat little-endian arrays: `<split>.tokens.bin` (uint16 ids), `<split>.offsets.bin` (uint32, one
 * more than there are documents), `<split>.sources.bin` (uint8, the place in `SOURCES`), `<split>.bytes.bin` (uint32)
 * and, last, `<split>.json`. Every file is written under another name and renamed, so that a killed process leaves no
 * half file.
 */
export function writeSplit(folder: string, name: Split, split: TokenizedSplit): SplitMeta {
  mkdirSync(folder, { recursive: true });
  const write = (suffix: string, data: Uint8Array | string): void => {
    const path = join(folder, `${name}.${suffix}`);
    const temporary = `${path}.${process.pid}.tmp`;
    writeFileSync(temporary, data);
    renameSync(temporary, path);
  };
  const meta = splitMeta(split);
  write('tokens.bin', bytesOf(split.ids));
  write('offsets.bin', bytesOf(split.offsets));
  write(
    'sources.bin',
    Uint8Array.from(split.sources, (source) => SOURCES.indexOf(source)),
  );
  write('bytes.bin', bytesOf(split.bytes));
  write('json', `${JSON.stringify(meta, null, 2)}\n`);
  return meta;
}

/** Keeps a whole split for the next time. */
export const writeCachedSplit = (folder: string, name: Split, split: TokenizedSplit): void => {
  writeSplit(folder, name, split);
};

/** A split that was kept, or undefined when there is none or its files do not fit together. */
export function readCachedSplit(folder: string, name: Split): TokenizedSplit | undefined {
  const path = (suffix: string): string => join(folder, `${name}.${suffix}`);
  if (!existsSync(path('json'))) return undefined;
  try {
    const meta = JSON.parse(readFileSync(path('json'), 'utf8')) as SplitMeta;
    const read = (suffix: string): ArrayBuffer => new Uint8Array(readFileSync(path(suffix))).buffer;
    const ids = new Uint16Array(read('tokens.bin'));
    const offsets = new Uint32Array(read('offsets.bin'));
    const bytes = new Uint32Array(read('bytes.bin'));
    const sources = Array.from(new Uint8Array(read('sources.bin')), (i) => SOURCES[i]);
    const fits =
      ids.length === meta.tokens &&
      sources.length === meta.documents &&
      bytes.length === meta.documents &&
      offsets.length === meta.documents + 1 &&
      offsets.at(-1) === ids.length;
    return fits ? view(ids, offsets, sources, bytes) : undefined;
  } catch {
    return undefined;
  }
}
