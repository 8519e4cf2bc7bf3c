import { parseArgs } from 'node:util';
import { PUBLISHED_DISTILLATION, PUBLISHED_LAYER_DISTILLATION } from '@zebra/distill';
import { type PresetName, presets } from '@zebra/runtime';
import { type AdapterChoice, ZebraError } from '@zebra/tensor';
import type { ComputeDType } from '@zebra/tensor/nn';

/** The published peak rates of both stages, of the smallest model. */
const RATES = {
  layers: PUBLISHED_LAYER_DISTILLATION['1B'].learningRate,
  distillation: PUBLISHED_DISTILLATION['1B'].learningRate,
};

export const USAGE = `Converts a Llama or Qwen checkpoint into a hybrid of MLA and Mamba2 layers.

  main.ts MODEL          folder of a checkpoint, or its name on the Hugging Face hub
  --out FOLDER           where the hybrid goes, with report.json and metrics.jsonl
  --text FILE            what to distil on: documents, one after a blank line, in plain text
  --ids FILE             or token ids, little-endian int32; a negative one ends a document
  --preset NAME          a published configuration: ${Object.keys(presets).join(', ')}
  --mla-layers 0,5,10    or the layers that are MLA (default: a quarter of them, spread evenly)
  --rope-rows KIND       frequency-aware or last (the reference's; default frequency-aware)
  --layer-steps N        steps of intermediate-layer distillation (default 0)
  --steps N              steps of end-to-end distillation (default 100)
  --rows B, --length T   sequences of a step and their tokens (default 4 and 2048)
  --layer-learning-rate R  peak of intermediate-layer distillation (default ${RATES.layers}, as published for 1B)
  --learning-rate R      peak of end-to-end distillation (default ${RATES.distillation}, as published for 1B)
  --compute DTYPE        float16 (needs an adapter that has it) or float32 (default float16 on GPUs that have it)
  --save DTYPE           bfloat16, float16 or float32 (default bfloat16)
  --checkpoint-layers    recompute activations in the backward pass: less memory, a third more time
  --checkpoint-every N   steps between checkpoints under FOLDER/checkpoints, kept until the end (default 500, 0 = none)
  --resume               go on from the checkpoints of a run with the same options that was cut off
  --adapter KIND         auto, hardware, software or swiftshader (default auto)
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
  readonly layerLearningRate: number;
  readonly learningRate: number;
  readonly compute?: ComputeDType;
  readonly save: 'bfloat16' | 'float16' | 'float32';
  readonly checkpointLayers: boolean;
  /** 0: no checkpoints. */
  readonly checkpointEvery: number;
  readonly resume: boolean;
  readonly adapter: AdapterChoice;
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
  const layerSteps = integer('layer-steps', values['layer-steps'], 0);
  const steps = integer('steps', values.steps, 0);
  if (text !== undefined && ids !== undefined) throw wrong('give either --text FILE or --ids FILE, not both');
  if (text === undefined && ids === undefined && layerSteps + steps > 0) {
    throw wrong('give either --text FILE or --ids FILE to distil on (or --steps 0 to initialise only)');
  }
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
    layerSteps,
    steps,
    rows: integer('rows', values.rows, 1),
    // One token predicts nothing.
    length: integer('length', values.length, 2),
    layerLearningRate: rate('layer-learning-rate', values['layer-learning-rate']),
    learningRate: rate('learning-rate', values['learning-rate']),
    ...(compute !== undefined && { compute: oneOf('compute', compute, ['float16', 'float32'] as const) }),
    save: oneOf('save', values.save, ['bfloat16', 'float16', 'float32'] as const),
    checkpointLayers: values['checkpoint-layers'],
    checkpointEvery: integer('checkpoint-every', values['checkpoint-every'], 0),
    resume: values.resume,
    adapter: oneOf('adapter', values.adapter, ['auto', 'hardware', 'software', 'swiftshader'] as const),
    seed: integer('seed', values.seed, 0),
  };
}

function parse(args: readonly string[]) {
  const text = (value: string) => ({ type: 'string', default: value }) as const;
  const open = { type: 'string' } as const;
  const flag = { type: 'boolean', default: false } as const;
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
        'layer-learning-rate': text(String(RATES.layers)),
        'learning-rate': text(String(RATES.distillation)),
        compute: open,
        save: text('bfloat16'),
        'checkpoint-layers': flag,
        'checkpoint-every': text('500'),
        resume: flag,
        adapter: text('auto'),
        seed: text('0'),
        help: flag,
      },
    });
  } catch (cause) {
    // Node's further sentences are about arguments that begin with a dash.
    throw wrong((cause as Error).message.split(/\.\s/)[0]!);
  }
}

const wrong = (what: string): ZebraError => new ZebraError('argument', `${what} (--help lists the options)`);

function oneOf<const T extends string>(name: string, value: string, known: readonly T[]): T {
  const found = known.find((one) => one === value);
  if (!found) throw wrong(`--${name} must be one of ${known.join(', ')}, got ${value}`);
  return found;
}

function integer(name: string, text: string, least: number): number {
  const value = Number(text);
  if (text.trim() !== '' && Number.isSafeInteger(value) && value >= least) return value;
  throw wrong(`--${name} must be a whole number of at least ${least}, got ${text}`);
}

function rate(name: string, text: string): number {
  const value = Number(text);
  if (text.trim() !== '' && Number.isFinite(value) && value > 0) return value;
  throw wrong(`--${name} must be a number above 0, got ${text}`);
}

function layersOf(text: string): number[] {
  return text.split(',').map((part) => integer('mla-layers', part, 0));
}
