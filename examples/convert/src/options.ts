import { fileURLToPath } from 'node:url';
import { parseArgs } from 'node:util';
import type { AdapterChoice } from '@zebra/tensor';

/** What the demo is asked to do. */
export interface DemoOptions {
  readonly adapter: AdapterChoice;
  /** Hugging Face folder of the teacher: config, weights and tokenizer. */
  readonly teacher: string;
  /** Hybrid made with the full recipe, to show a sample of; it need not be there. */
  readonly hybrid: string;
  /** Where report, checkpoint and plots go. */
  readonly out: string;
  /** The full recipe with its fixed step counts, instead of what fits the time. */
  readonly full: boolean;
  /** Seconds that the whole run may take. */
  readonly seconds: number;
  /** Step counts of the four training stages, instead of those that fit the time. */
  readonly steps: StageSteps | undefined;
  readonly seed: number;
  readonly ropeRows: 'last' | 'frequency-aware';
  readonly prompt: string;
  /** On a software adapter too, clamp every access of a kernel: slower, and not needed by kernels that guard themselves. */
  readonly robust: boolean;
}

/** Optimizer steps of each training stage. */
export interface StageSteps {
  readonly mla: number;
  readonly mamba2: number;
  readonly distillation: number;
  readonly preferences: number;
}

export const USAGE = `From a pre-trained Transformer to a distilled hybrid of MLA and Mamba2 layers, and text from it.

  npm run demo -- [options]

  --adapter auto|hardware|software|swiftshader   default auto: the best there is
  --full             the full recipe, meant for a GPU, instead of as many steps as fit the time
  --seconds N        time for the whole run (default 225, at least 20; with --full it only sets the pace of the progress
                     line); a slow machine needs more for eight steps of each stage, the least there are
  --steps A,B,C,D    fixed step counts instead: ILD of the MLA student, of the Mamba2 student, distillation, DPO
  --teacher DIR      default: the one in examples/train-teacher/teacher
  --hybrid DIR       hybrid to show beside this run's (default: the committed one, examples/convert/hybrid)
  --out DIR          default out/demo
  --seed N           default 1
  --rope-rows last|frequency-aware   which rows of a head MLA rotates at initialisation (default frequency-aware)
  --prompt TEXT      what the samples begin with
  --robust           check every access of a kernel on software adapters too: slower by a quarter
  --help`;

const ADAPTERS: readonly AdapterChoice[] = ['auto', 'hardware', 'software', 'swiftshader'];
const folder = (path: string) => fileURLToPath(new URL(path, import.meta.url));

/** Seconds that the demo takes where nothing else is said: enough below five minutes for a machine that slows down. */
const SECONDS = 225;
const FULL_SECONDS = 420;
/** Fewer no machine keeps to: the parts that do not train and a few steps of each stage take longer. */
const LEAST_SECONDS = 20;

/**
 * Reads the command line; undefined when help is asked for.
 *
 * @throws Error that names the option and what it takes
 */
export function readOptions(args: readonly string[]): DemoOptions | undefined {
  const values = parse(args);
  if (values.help) return undefined;
  const adapter = oneOf('--adapter', values.adapter, ADAPTERS);
  const ropeRows = oneOf('--rope-rows', values['rope-rows'], ['last', 'frequency-aware'] as const);
  return {
    adapter,
    teacher: values.teacher,
    hybrid: values.hybrid,
    out: values.out,
    full: values.full,
    seconds:
      values.seconds === undefined
        ? values.full
          ? FULL_SECONDS
          : SECONDS
        : count('--seconds', values.seconds, LEAST_SECONDS),
    steps: values.steps === undefined ? undefined : stageSteps(values.steps),
    seed: count('--seed', values.seed, 0),
    ropeRows,
    prompt: values.prompt,
    robust: values.robust,
  };
}

function parse(args: readonly string[]) {
  try {
    return parseArgs({
      args: [...args],
      options: {
        adapter: { type: 'string', default: 'auto' },
        full: { type: 'boolean', default: false },
        seconds: { type: 'string' },
        steps: { type: 'string' },
        teacher: { type: 'string', default: folder('../../train-teacher/teacher') },
        hybrid: { type: 'string', default: folder('../hybrid') },
        out: { type: 'string', default: 'out/demo' },
        seed: { type: 'string', default: '1' },
        'rope-rows': { type: 'string', default: 'frequency-aware' },
        prompt: { type: 'string', default: 'The people of the United States' },
        robust: { type: 'boolean', default: false },
        help: { type: 'boolean', default: false },
      },
    }).values;
  } catch (cause) {
    // Node's further sentences are about arguments that begin with a dash.
    throw new Error((cause as Error).message.split(/\.\s/)[0], { cause });
  }
}

function oneOf<T extends string>(name: string, value: string, choices: readonly T[]): T {
  const found = choices.find((choice) => choice === value);
  if (!found) throw new Error(`${name} takes one of ${choices.join(', ')}, got ${JSON.stringify(value)}`);
  return found;
}

function count(name: string, value: string, least = 1): number {
  const number = Number(value);
  if (Number.isSafeInteger(number) && number >= least && value.trim() !== '') return number;
  throw new Error(`${name} takes an integer of at least ${least}, got ${JSON.stringify(value)}`);
}

function stageSteps(value: string): StageSteps {
  const parts = value.split(',');
  if (parts.length !== 4) throw new Error(`--steps takes four numbers as in 30,30,60,10, got ${JSON.stringify(value)}`);
  const [mla, mamba2, distillation, preferences] = parts.map((part) => count('--steps', part)) as [
    number,
    number,
    number,
    number,
  ];
  return { mla, mamba2, distillation, preferences };
}
