import { parseArgs } from 'node:util';
import { type PresetName, presets } from '@zebra/runtime';
import { ZebraError } from '@zebra/tensor';
import type { ComputeDType } from '@zebra/tensor/nn';

export const USAGE = `Converts a Llama or Qwen checkpoint into a hybrid of MLA and Mamba2 layers.

  main.ts MODEL          folder of a checkpoint, or its name on the Hugging Face hub
  --out FOLDER           where the hybrid goes, with report.json
  --text FILE            what to distil on: documents, one after a blank line, in plain text
  --ids FILE             or token ids, little-endian int32; a negative one ends a document
  --preset NAME          a published configuration: ${Object.keys(presets).join(', ')}
  --mla-layers 0,5,10    or the layers that are MLA (default: a quarter of them, spread evenly)
  --rope-rows KIND       frequency-aware or last (the reference's; default frequency-aware)
  --layer-steps N        steps of intermediate-layer distillation (default 0)
  --steps N              steps of end-to-end distillation (default 100)
  --rows B, --length T   sequences of a step and their tokens (default 4 and 2048)
  --learning-rate R      peak (default 8e-5)
  --compute DTYPE        float16 (needs a GPU that has it) or float32 (default float16 where there is)
  --save DTYPE           bfloat16, float16 or float32 (default bfloat16)
  --checkpoint-layers    recompute activations in the backward pass: less memory, a third more time
  --seed N               of what attention cannot supply, and of the order of documents (default 0)`;

/** The command line, read and checked. */
export interface ConvertOptions {
  readonly model: string;
  readonly out: string;
  readonly text?: string;
  readonly ids?: string;
  readonly preset?: PresetName;
  readonly mlaLayers?: readonly number[];
  readonly ropeRows: 'frequency-aware' | 'last';
  readonly layerSteps: number;
  readonly steps: number;
  readonly rows: number;
  readonly length: number;
  readonly learningRate: number;
  readonly compute?: ComputeDType;
  readonly save: 'bfloat16' | 'float16' | 'float32';
  readonly checkpointLayers: boolean;
  readonly seed: number;
}

/**
 * Reads the command line; undefined where only help is asked for.
 *
 * @throws ZebraError `argument` for options that are unknown, missing or make no sense
 */
export function readOptions(args: readonly string[]): ConvertOptions | undefined {
  const { values, positionals } = parse(args);
  if (values.help) return undefined;
  const [model, ...more] = positionals;
  if (!model || more.length > 0) throw wrong('give one MODEL: a folder, or a name on the hub');
  const { out, text, ids, preset, compute } = values;
  if (!out) throw wrong('--out FOLDER is missing');
  if ((text === undefined) === (ids === undefined)) throw wrong('give either --text FILE or --ids FILE');
  if (preset !== undefined && values['mla-layers'] !== undefined)
    throw wrong('give --preset or --mla-layers, not both');
  return {
    model,
    out,
    ...(text !== undefined && { text }),
    ...(ids !== undefined && { ids }),
    ...(preset !== undefined && { preset: oneOf('preset', preset, Object.keys(presets)) as PresetName }),
    ...(values['mla-layers'] !== undefined && { mlaLayers: layersOf(values['mla-layers']) }),
    ropeRows: oneOf('rope-rows', values['rope-rows'], ['frequency-aware', 'last'] as const),
    layerSteps: numberOf('layer-steps', values['layer-steps']),
    steps: numberOf('steps', values.steps),
    rows: numberOf('rows', values.rows),
    length: numberOf('length', values.length),
    learningRate: numberOf('learning-rate', values['learning-rate']),
    ...(compute !== undefined && { compute: oneOf('compute', compute, ['float16', 'float32'] as const) }),
    save: oneOf('save', values.save, ['bfloat16', 'float16', 'float32'] as const),
    checkpointLayers: values['checkpoint-layers'],
    seed: numberOf('seed', values.seed),
  };
}

function parse(args: readonly string[]) {
  const text = (value: string) => ({ type: 'string', default: value }) as const;
  const open = { type: 'string' } as const;
  try {
    return parseArgs({
      args: [...args],
      allowPositionals: true,
      options: {
        out: open,
        text: open,
        ids: open,
        preset: open,
        'mla-layers': open,
        'rope-rows': text('frequency-aware'),
        'layer-steps': text('0'),
        steps: text('100'),
        rows: text('4'),
        length: text('2048'),
        'learning-rate': text('8e-5'),
        compute: open,
        save: text('bfloat16'),
        'checkpoint-layers': { type: 'boolean', default: false },
        seed: text('0'),
        help: { type: 'boolean', default: false },
      },
    });
  } catch (cause) {
    throw wrong((cause as Error).message);
  }
}

const wrong = (what: string): ZebraError => new ZebraError('argument', `${what} (--help lists the options)`);

function oneOf<const T extends string>(name: string, value: string, known: readonly T[]): T {
  const found = known.find((one) => one === value);
  if (!found) throw wrong(`--${name} must be one of ${known.join(', ')}, got ${value}`);
  return found;
}

function numberOf(name: string, text: string): number {
  const value = Number(text);
  if (text.trim() === '' || !Number.isFinite(value)) throw wrong(`--${name} must be a number, got ${text}`);
  return value;
}

function layersOf(text: string): number[] {
  return text.split(',').map((part) => numberOf('mla-layers', part));
}
