import { readdir } from 'node:fs/promises';
import { parseArgs } from 'node:util';
import { type AdapterChoice, ZebraError } from '@zebra/tensor';
import type { ParityDType } from './find-cases.js';

export const USAGE = `npm run parity -- [--goldens DIR] [--model DIR [--text TEXT] [--expect NATS]] [--json FILE] [--adapter auto|hardware|software|swiftshader] [--kernels native|hardware|matrix] [--dtype float32|float16]

  --goldens DIR  every golden case below DIR
  --dtype        float32: outputs, gradients, optimizer steps, initialisation, losses; float16: outputs with float16
                 weights and activations against the float32 goldens, on an adapter with shader-f16
  --kernels      the kernels meant for the adapter, or those meant for hardware GPUs whatever it is; matrix: those
                 for GPUs with matrix units, which are emulated where the adapter has none
  --model DIR    loads a Hugging Face folder by name and prints its next-token loss on TEXT (default: a sentence that
                 stories260k is known by, 1.25104); with --expect it is held to that`;

/** The command line, read and checked. */
export interface ParityOptions {
  readonly goldens?: string;
  readonly model?: string;
  readonly text?: string;
  readonly expect?: number;
  readonly json?: string;
  readonly adapter: AdapterChoice;
  readonly kernels: 'native' | 'hardware' | 'matrix';
  readonly dtype: ParityDType;
}

/**
 * Reads the command line; undefined where only help is asked for.
 *
 * @throws ZebraError `argument` for options that are unknown, missing or make no sense
 */
export function readOptions(args: readonly string[]): ParityOptions | undefined {
  const { help, goldens, model, text, expect, json, ...choices } = parse(args);
  if (help) return undefined;
  if (!goldens && !model) throw wrong('give --goldens DIR, --model DIR or both');
  const adapter = oneOf('adapter', choices.adapter, ['auto', 'hardware', 'software', 'swiftshader'] as const);
  const kernels = oneOf('kernels', choices.kernels, ['native', 'hardware', 'matrix'] as const);
  const dtype = oneOf('dtype', choices.dtype, ['float32', 'float16'] as const);
  const nats = Number(expect);
  if (expect !== undefined && !(expect.trim() !== '' && Number.isFinite(nats))) {
    throw wrong(`--expect must be a number, got ${expect}`);
  }
  return {
    ...(goldens !== undefined && { goldens }),
    ...(model !== undefined && { model }),
    ...(text !== undefined && { text }),
    ...(expect !== undefined && { expect: nats }),
    ...(json !== undefined && { json }),
    adapter,
    kernels,
    dtype,
  };
}

/** Throws where a folder cannot be listed; `option` names what it was given as. */
export async function assertFolder(option: string, folder: string): Promise<void> {
  await readdir(folder).catch((cause: NodeJS.ErrnoException) => {
    throw new ZebraError('io', `parity: --${option} ${folder} cannot be listed: ${cause.code ?? cause.message}`, {
      cause,
    });
  });
}

function parse(args: readonly string[]) {
  const open = { type: 'string' } as const;
  const text = (value: string) => ({ type: 'string', default: value }) as const;
  try {
    return parseArgs({
      args: [...args],
      options: {
        goldens: open,
        model: open,
        text: open,
        expect: open,
        json: open,
        adapter: text('auto'),
        kernels: text('native'),
        dtype: text('float32'),
        help: { type: 'boolean', default: false },
      },
    }).values;
  } catch (cause) {
    // Node's further sentences are about how to write positional arguments, which there are none of.
    throw wrong((cause as Error).message.split('. ')[0]!);
  }
}

const wrong = (what: string): ZebraError => new ZebraError('argument', `parity: ${what} (--help lists the options)`);

function oneOf<const T extends string>(name: string, value: string, known: readonly T[]): T {
  const found = known.find((one) => one === value);
  if (!found) throw wrong(`--${name} must be ${known.join(', ')}, got ${value}`);
  return found;
}
