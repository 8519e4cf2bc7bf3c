import { readFile } from 'node:fs/promises';
import type { Row } from '../runner/row.js';
import { keyOf } from './compare.js';

/** One row of a peer, as `baselines/torch_baselines.py` writes it. */
interface PeerRow {
  readonly name: string;
  /** The shape of our row that it stands beside. */
  readonly shape: string;
  readonly dtype: string;
  readonly milliseconds: number;
  /** Published elsewhere and not measured in that run. */
  readonly given?: boolean;
}

/** What `--peers` reads. */
export interface PeerFile {
  /** Its name and version. */
  readonly peer: string;
  readonly adapter: string;
  readonly date?: string;
  readonly rows: readonly PeerRow[];
}

/** How a row of ours stands against a peer's. */
export interface PeerShare {
  readonly dtype: string;
  readonly milliseconds: number;
  readonly given?: boolean;
  /** The peer's time over ours: 1 is as fast as the peer, more is faster. */
  readonly ratio: number;
}

/** Reads a peer's results. Throws an error that names the file where it has none. */
export async function readPeers(file: string): Promise<PeerFile> {
  const fail = (why: string) =>
    new Error(`--peers ${file}: ${why}. Give a file that baselines/torch_baselines.py wrote.`);
  let parsed: Partial<PeerFile> | null;
  try {
    parsed = JSON.parse(await readFile(file, 'utf8')) as typeof parsed;
  } catch (error) {
    throw fail((error as Error).message);
  }
  const { peer, adapter, rows } = parsed ?? {};
  if (typeof peer !== 'string' || typeof adapter !== 'string' || !Array.isArray(rows)) {
    throw fail('it has no peer, adapter or rows');
  }
  for (const { name, shape, dtype, milliseconds } of rows as Partial<PeerRow>[]) {
    const named = [name, shape, dtype].every((text) => typeof text === 'string');
    if (!named || !(Number.isFinite(milliseconds) && milliseconds! > 0)) {
      throw fail('a row has no name, shape, dtype or milliseconds');
    }
  }
  return parsed as PeerFile;
}

/**
 * The peer's row beside ours: of several for one of ours the fastest counts (float16 and bfloat16 stand beside our
 * float16).
 */
export function peerOf(peers: PeerFile, row: Pick<Row, 'name' | 'shape' | 'median'>): PeerShare | undefined {
  const beside = peers.rows.filter((other) => keyOf(other) === keyOf(row));
  const best = beside.sort((one, other) => one.milliseconds - other.milliseconds)[0];
  if (!best) return undefined;
  const { dtype, milliseconds, given } = best;
  return { dtype, milliseconds, ...(given && { given }), ratio: milliseconds / row.median };
}
