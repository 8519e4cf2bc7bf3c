import { execFile } from 'node:child_process';
import { readFile, writeFile } from 'node:fs/promises';
import { availableParallelism, loadavg } from 'node:os';
import { promisify } from 'node:util';
import type { DeviceInfo } from '@zebra/tensor';
import type { Peaks, Row } from '../runner/row.js';
import type { PeerFile } from './peers.js';

/** What `--json` writes and `--against` reads. */
export interface ResultFile {
  readonly adapter: DeviceInfo;
  readonly host: { readonly cores: number /** Load of the last minute when the run began. */; readonly load: number };
  /** ISO 8601. */
  readonly date?: string;
  /** Where the run was made inside a git work tree; `-dirty` where that had changes. */
  readonly commit?: string;
  readonly peaks?: Peaks;
  /** Whom rows with a `peer` are set beside. */
  readonly peers?: Pick<PeerFile, 'peer' | 'adapter' | 'date'>;
  readonly rows: readonly Row[];
  /** Rows that were not tried, and why. */
  readonly skipped?: readonly { readonly name: string; readonly shape: string; readonly why: string }[];
  readonly failures?: readonly { readonly name: string; readonly shape: string; readonly message: string }[];
}

/** Cores, and how busy they are with other things. */
export function describeHost(): ResultFile['host'] {
  return { cores: availableParallelism(), load: loadavg()[0]! };
}

/** The commit that is measured, if git knows. */
export async function currentCommit(): Promise<string | undefined> {
  try {
    const git = ['describe', '--always', '--dirty', '--abbrev=12', '--exclude=*'];
    const { stdout } = await promisify(execFile)('git', git, { cwd: new URL('.', import.meta.url) });
    return stdout.trim() || undefined;
  } catch {
    return undefined;
  }
}

export async function writeResult(file: string, result: ResultFile): Promise<void> {
  await writeFile(file, `${JSON.stringify(result, undefined, 2)}\n`);
}

/** Reads an earlier run. Throws an error that names the file where it is none. */
export async function readResult(file: string): Promise<ResultFile> {
  const fail = (why: string) => new Error(`--against ${file}: ${why}. Give a file that --json wrote.`);
  let parsed: unknown;
  try {
    parsed = JSON.parse(await readFile(file, 'utf8'));
  } catch (error) {
    throw fail((error as Error).message);
  }
  const { adapter, rows } = (parsed ?? {}) as Partial<ResultFile>;
  if (!adapter || !Array.isArray(rows)) throw fail('it has no adapter or no rows');
  for (const row of rows as Partial<Row>[]) {
    const numbers = [row.median, row.spread, row.cpu, row.cpuSpread];
    const complete = typeof row.name === 'string' && typeof row.shape === 'string' && numbers.every(Number.isFinite);
    if (!complete || !(row.median! > 0)) throw fail('a row has no name, shape, median, cpu or spread');
  }
  return parsed as ResultFile;
}
