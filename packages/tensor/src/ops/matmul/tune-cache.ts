import type { Device } from '../../device/device.js';
import { assembleSource } from '../../device/kernel.js';
import { nodeFs, nodeOs, nodePath } from '../../node-modules.js';
import { MATMUL_BINDINGS } from './common.wgsl.js';
import { type MatrixConstants, type MatrixPlan, matrixMatmul } from './matrix.wgsl.js';
import { LARGE_PLAN, type MatmulPick } from './plans.js';

/** Layout of the file. */
const FORMAT = 1;

const inBrowser = (): boolean => typeof process === 'undefined' || !process.versions?.node;

/** The folder for things that can be made again: `$XDG_CACHE_HOME/zebra`, else `~/.cache/zebra`. */
async function defaultFolder(): Promise<string> {
  const [os, path] = [await nodeOs(), await nodePath()];
  return path.join(process.env['XDG_CACHE_HOME'] || path.join(os.homedir(), '.cache'), 'zebra');
}

/** 32 bits of a text (FNV-1a), for names of files; what a file is for stands in it in full. */
function hash(text: string): string {
  let state = 0x811c9dc5;
  for (let i = 0; i < text.length; i++) state = Math.imul(state ^ text.charCodeAt(i), 0x01000193);
  return (state >>> 0).toString(16).padStart(8, '0');
}

/** The kernel as it is written for one plan: picks that were found with another one are void. */
function kernelVersion(): string {
  const sources = ([1, 2] as const).map((buffers) => {
    const constants: MatrixConstants = {
      ...LARGE_PLAN,
      buffers,
      ...{ matrixM: 16, matrixN: 16, matrixK: 16, lanes: 32 },
      ...{ aAlongK: true, bAlongK: false, aVectors: true, bVectors: true, cVectors: true },
    };
    const present = Object.keys(MATMUL_BINDINGS);
    return assembleSource(
      matrixMatmul,
      {
        constants: { ...constants },
        dtype: (name) => (name === 'a' || name === 'b' ? 'uint32' : 'float32'),
        has: () => true,
        software: false,
        subgroups: true,
        matrixEmulated: false,
        workgroup: 128,
      },
      present,
    );
  });
  return hash(sources.join('\n'));
}

/** What picks depend on: the adapter with its driver, the options it was opened with that matter, and the kernel. */
function circumstances(device: Device): Record<string, string> {
  const { vendor, architecture, device: name, description } = device.gpu.adapterInfo;
  const { subgroupMatrix, matrixEmulated } = device.info;
  const matrices = subgroupMatrix.map(({ m, n, k }) => `${m}x${n}x${k}`).join(' ');
  return {
    ...{ vendor, architecture, name, description },
    matrices: matrixEmulated ? `emulated ${matrices}` : matrices,
    kernel: kernelVersion(),
  };
}

/** A file of picks. */
export interface TuneCache {
  /** What the file holds; empty where there is none, or one that was written for something else or is damaged. */
  readonly picks: ReadonlyMap<string, MatmulPick>;
  /** Replaces the file. */
  write(picks: ReadonlyMap<string, MatmulPick>): Promise<void>;
}

/** The picks on disk for a device; undefined where there is no disk. */
export async function openTuneCache(device: Device, folder?: string): Promise<TuneCache | undefined> {
  if (inBrowser()) return undefined;
  const [fs, path] = [await nodeFs(), await nodePath()];
  const made = circumstances(device);
  const directory = folder ?? (await defaultFolder());
  const file = path.join(directory, `matmul-${hash(JSON.stringify(made))}.json`);
  const text = await fs.readFile(file, 'utf8').catch(() => '');
  return {
    picks: parse(text, made),
    async write(picks) {
      await fs.mkdir(directory, { recursive: true });
      // Renamed when it is whole, so that a process that reads or dies meanwhile does no harm.
      const temporary = `${file}.${process.pid}`;
      const content = { format: FORMAT, made, picks: Object.fromEntries(picks) };
      await fs.writeFile(temporary, `${JSON.stringify(content, undefined, 2)}\n`);
      await fs.rename(temporary, file);
    },
  };
}

/** Takes what is sound in a file; the kernel checks plans once more before it uses them. */
function parse(text: string, made: Record<string, string>): Map<string, MatmulPick> {
  const found = new Map<string, MatmulPick>();
  let content: { format?: unknown; made?: unknown; picks?: unknown };
  try {
    content = JSON.parse(text) as typeof content;
  } catch {
    return found;
  }
  if (content?.format !== FORMAT || JSON.stringify(content.made) !== JSON.stringify(made)) return found;
  for (const [key, pick] of Object.entries(content.picks ?? {})) {
    const plan = planOf((pick as Partial<MatmulPick> | null)?.plan);
    const pieces = (pick as Partial<MatmulPick> | null)?.pieces;
    if (plan && isCount(pieces)) found.set(key, { plan, pieces });
  }
  return found;
}

const isCount = (value: unknown): value is number => Number.isInteger(value) && (value as number) > 0;

function planOf(value: unknown): MatrixPlan | undefined {
  const plan = (value ?? {}) as Partial<MatrixPlan>;
  const { rows, columns, step, subgroupRows, subgroupColumns, group, buffers, ahead } = plan;
  const counts = [rows, columns, step, subgroupRows, subgroupColumns, group].every(isCount);
  if (!counts || (buffers !== 1 && buffers !== 2) || typeof ahead !== 'boolean') return undefined;
  return { rows, columns, step, subgroupRows, subgroupColumns, group, buffers, ahead } as MatrixPlan;
}
