import { parseArgs } from 'node:util';
import { type AdapterChoice, ZebraError } from '@zebra/tensor';
import { COLD_START_OPTION } from './benchmarks/cold-start.js';
import { benchmarks } from './benchmarks/index.js';
import type { Benchmark } from './runner/case.js';

const names = benchmarks.map(({ name }) => name).join(', ');

export const USAGE = `npm run bench -- [--only NAME]… [--json FILE] [--against FILE] [--peers FILE] [--adapter auto|hardware|software|swiftshader] [--size small|large] [--seconds N]

  --only NAME     only the benchmarks whose name begins so: ${names}
  --json FILE     writes the results
  --against FILE  compares with results that --json wrote, and marks what changed beyond the noise
  --peers FILE    adds the share of a peer's speed, as baselines/torch_baselines.py measured it
  --size          sizes for a CPU or for a GPU; default by the adapter
  --seconds N     time for each row, warm-up not counted; default 1`;

/** The command line, read and checked. */
export interface BenchOptions {
  readonly chosen: readonly Benchmark[];
  readonly json?: string;
  readonly against?: string;
  readonly peers?: string;
  readonly adapter: AdapterChoice;
  readonly size?: 'small' | 'large';
  readonly seconds: number;
  /** In a process that the command starts to measure. */
  readonly coldStart?: string;
}

/**
 * Reads the command line; undefined where only help is asked for.
 *
 * @throws ZebraError `argument` for options that are unknown or make no sense
 */
export function readOptions(args: readonly string[]): BenchOptions | undefined {
  const { help, only, size, json, against, peers, ...values } = parse(args);
  if (help) return undefined;
  for (const prefix of only ?? []) {
    if (benchmarks.some(({ name }) => name.startsWith(prefix))) continue;
    throw wrong(`--only ${prefix}: no benchmark's name begins so; there are ${names}`);
  }
  const seconds = Number(values.seconds);
  if (!(seconds > 0 && Number.isFinite(seconds))) {
    throw wrong(`--seconds must be a number above 0, got ${values.seconds}`);
  }
  const coldStart = values[COLD_START_OPTION] as string | undefined;
  return {
    chosen: benchmarks.filter(({ name }) => !only || only.some((prefix) => name.startsWith(prefix))),
    ...(json !== undefined && { json }),
    ...(against !== undefined && { against }),
    ...(peers !== undefined && { peers }),
    adapter: oneOf('adapter', values.adapter, ['auto', 'hardware', 'software', 'swiftshader'] as const),
    ...(size !== undefined && { size: oneOf('size', size, ['small', 'large'] as const) }),
    seconds,
    ...(coldStart !== undefined && { coldStart }),
  };
}

function parse(args: readonly string[]) {
  const open = { type: 'string' } as const;
  try {
    return parseArgs({
      args: [...args],
      options: {
        only: { type: 'string', multiple: true },
        json: open,
        against: open,
        peers: open,
        adapter: { type: 'string', default: 'auto' },
        size: open,
        seconds: { type: 'string', default: '1' },
        [COLD_START_OPTION]: open,
        help: { type: 'boolean', default: false },
      },
    }).values;
  } catch (cause) {
    // Node's further sentences are about arguments that begin with a dash.
    throw wrong((cause as Error).message.split(/\.\s/)[0]!);
  }
}

const wrong = (what: string): ZebraError => new ZebraError('argument', `bench: ${what} (--help lists the options)`);

function oneOf<const T extends string>(name: string, value: string, known: readonly T[]): T {
  const found = known.find((one) => one === value);
  if (!found) throw wrong(`--${name} must be one of ${known.join(', ')}, got ${value}`);
  return found;
}
