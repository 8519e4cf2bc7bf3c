import { fileURLToPath } from 'node:url';
import { parseArgs } from 'node:util';
import { type AdapterChoice, ZebraError } from '@zebra/tensor';

/** The model that is taken where none is named: the small teacher of the train-teacher example. */
export const TEACHER = fileURLToPath(new URL('../../train-teacher/teacher', import.meta.url));

export const USAGE = `Continues a text with a model from a checkpoint folder.

  main.ts [FOLDER]       config.json, tokenizer.json and safetensors, as on the Hugging Face hub;
                         a hybrid has its hybrid_config.json too (default: the teacher of the train-teacher example)
  --prompt TEXT          what to continue (default: the opening of a speech)
  --chat                 take the prompt as a user's message, through the model's chat template
  --max-new-tokens N     most tokens to add (default 100)
  --temperature T        0 takes the most probable token (default 0.8)
  --top-k K              sample among the K most probable tokens (default: all)
  --top-p P              … or among those that have the probability P together (default 0.95)
  --seed N               the same seed gives the same text (default 0)
  --dtype DTYPE          what weights are kept and layers compute in: float32, or float16 where the adapter has it
                         (default float32)
  --adapter KIND         auto, hardware, software or swiftshader (default auto)`;

const ADAPTERS: readonly string[] = ['auto', 'hardware', 'software', 'swiftshader'] satisfies AdapterChoice[];

/** The command line, read and checked. */
export interface CommandOptions {
  readonly help: boolean;
  readonly folder: string;
  readonly prompt: string;
  readonly chat: boolean;
  readonly adapter: AdapterChoice;
  readonly maxNewTokens: number;
  readonly temperature: number;
  readonly topK?: number;
  readonly topP: number;
  readonly seed: number;
  readonly dtype: 'float32' | 'float16';
}

/**
 * Reads the command line.
 *
 * @throws ZebraError `argument` for options that are unknown or make no sense. Ranges of numbers are not looked at
 *   here: the library checks those itself, before it starts.
 */
export function readOptions(args: readonly string[]): CommandOptions {
  const { values, positionals } = parse(args);
  if (positionals.length > 1) {
    throw new ZebraError(
      'argument',
      `one folder at most, got ${positionals.join(' ')}. Put the prompt behind --prompt, in quotes.`,
    );
  }
  if (!ADAPTERS.includes(values.adapter)) {
    throw new ZebraError('argument', `--adapter must be ${ADAPTERS.join(', ')}, got ${values.adapter}`);
  }
  const { dtype } = values;
  if (dtype !== 'float32' && dtype !== 'float16') {
    throw new ZebraError('argument', `--dtype must be float32 or float16, got ${dtype}`);
  }
  const topK = values['top-k'];
  return {
    help: values.help,
    folder: positionals[0] ?? TEACHER,
    prompt: values.prompt,
    chat: values.chat,
    adapter: values.adapter as AdapterChoice,
    maxNewTokens: numberOf('max-new-tokens', values['max-new-tokens']),
    temperature: numberOf('temperature', values.temperature),
    ...(topK !== undefined && { topK: numberOf('top-k', topK) }),
    topP: numberOf('top-p', values['top-p']),
    seed: numberOf('seed', values.seed),
    dtype,
  };
}

function parse(args: readonly string[]) {
  try {
    return parseArgs({
      args: [...args],
      allowPositionals: true,
      options: {
        prompt: { type: 'string', default: 'Mr. Speaker, the state of our union' },
        chat: { type: 'boolean', default: false },
        'max-new-tokens': { type: 'string', default: '100' },
        temperature: { type: 'string', default: '0.8' },
        'top-k': { type: 'string' },
        'top-p': { type: 'string', default: '0.95' },
        seed: { type: 'string', default: '0' },
        dtype: { type: 'string', default: 'float32' },
        adapter: { type: 'string', default: 'auto' },
        help: { type: 'boolean', default: false },
      },
    });
  } catch (cause) {
    // Node's further sentences are about arguments that begin with a dash.
    const what = (cause as Error).message.split(/\.\s/)[0];
    throw new ZebraError('argument', `${what} (--help lists the options)`, { cause });
  }
}

function numberOf(name: string, text: string): number {
  const value = Number(text);
  if (text.trim() === '' || !Number.isFinite(value)) {
    throw new ZebraError('argument', `--${name} must be a number, got ${JSON.stringify(text)}`);
  }
  return value;
}
