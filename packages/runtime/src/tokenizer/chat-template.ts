import { Environment, parse, tokenize } from '@huggingface/jinja';
import { ZebraError } from '@zebra/tensor';
import { BoundedInterpreter, type TemplateBudget } from './bounded-interpreter.js';

/** One message of a conversation. Templates may look at more keys than these (`tool_calls`, `name`, …). */
export interface ChatMessage {
  readonly role: string;
  readonly content?: unknown;
  readonly [key: string]: unknown;
}

/** Options of {@link ChatTemplate.render}. */
export interface RenderChatOptions {
  /** End with the words that open the assistant's answer. Default false. */
  readonly addGenerationPrompt?: boolean;
  /** Tools that the model may call, as JSON schemas. */
  readonly tools?: readonly unknown[];
  /** Further variables of the template (`enable_thinking`, `documents`, …). */
  readonly variables?: Readonly<Record<string, unknown>>;
  /** The time that `strftime_now` tells. Default: now. */
  readonly now?: Date;
  /** What the template may spend before it is stopped. */
  readonly budget?: TemplateBudget;
}

const MOST_TEMPLATE_CHARACTERS = 131_072;
const MOST_RANGE = 100_000;

// The template engine's whitespace handling takes the square of a run's length.
const LONG_BLANKS = /\s{1001}/;

/** A Jinja chat template: parsed once, rendered within a budget. It is taken for untrusted. */
export class ChatTemplate {
  private readonly program: object;
  private readonly specialTokens: Readonly<Record<string, string>>;

  /**
   * @param source text of the template
   * @param specialTokens `bos_token` and such, for the template's use
   * @throws ZebraError `format` for a template that cannot be parsed
   */
  constructor(source: string, specialTokens: Readonly<Record<string, string>> = {}) {
    if (source.length > MOST_TEMPLATE_CHARACTERS || LONG_BLANKS.test(source)) {
      throw new ZebraError(
        'format',
        `chat template: expected at most ${MOST_TEMPLATE_CHARACTERS} characters, and no more than 1000 blanks in a row`,
      );
    }
    try {
      this.program = parse(tokenize(source, { lstrip_blocks: true, trim_blocks: true }));
    } catch (cause) {
      throw new ZebraError('format', `chat template: it cannot be parsed: ${(cause as Error).message.slice(0, 300)}`, {
        cause,
      });
    }
    this.specialTokens = specialTokens;
  }

  /**
   * The conversation as the text that the model was trained on.
   *
   * @throws ZebraError `argument` when the template refuses the messages, `data` when it spends more than its budget,
   *   `format` when it fails otherwise
   */
  render(messages: readonly ChatMessage[], options: RenderChatOptions = {}): string {
    const variables = {
      ...this.specialTokens,
      messages,
      add_generation_prompt: options.addGenerationPrompt ?? false,
      // Null rather than absent, as the transformers library has it.
      tools: options.tools ?? null,
      documents: null,
      ...options.variables,
    };
    try {
      const environment = environmentOf(variables, options.now ?? new Date());
      const interpreter = new BoundedInterpreter(environment, budgetFor(variables, options.budget));
      return String(interpreter.run(this.program).value);
    } catch (error) {
      throw explain(error);
    }
  }
}

class Refusal extends Error {}

function explain(error: unknown): unknown {
  if (ZebraError.is(error)) return error;
  const cause = error as Error;
  if (cause instanceof Refusal) {
    return new ZebraError('argument', `chat template: it refuses these messages: ${cause.message.slice(0, 1000)}`, {
      cause,
    });
  }
  if (cause instanceof RangeError) {
    const what = /string length/.test(cause.message) ? 'its output is too long' : 'it is nested too deeply';
    return new ZebraError('data', `chat template: ${what}`, { cause });
  }
  return new ZebraError('format', `chat template: it fails: ${cause.message.slice(0, 300)}`, { cause });
}

function budgetFor(variables: unknown, budget: TemplateBudget = {}): Required<TemplateBudget> {
  return {
    steps: budget.steps ?? 1_000_000,
    milliseconds: budget.milliseconds ?? 5000,
    characters: budget.characters ?? 1_000_000 + 4 * (JSON.stringify(variables)?.length ?? 0),
  };
}

function environmentOf(variables: Readonly<Record<string, unknown>>, now: Date): object {
  const environment = new Environment();
  const globals: Record<string, unknown> = {
    true: true,
    false: false,
    none: null,
    True: true,
    False: false,
    None: null,
    range,
    raise_exception: (message: unknown) => {
      throw new Refusal(String(message));
    },
    strftime_now: (format: unknown) => formatTime(now, String(format)),
    ...variables,
  };
  for (const [name, value] of Object.entries(globals)) environment.set(name, value);
  return environment;
}

/** Python's range, of at most some many numbers. */
function range(first: unknown, second?: unknown, step: unknown = 1): number[] {
  const [start, stop] = second === undefined || second === null ? [0, first] : [first, second];
  const values = [start, stop, step];
  if (!values.every((value): value is number => Number.isSafeInteger(value)) || step === 0) {
    throw new Error(`range() takes integers and a step that is not 0, got ${values.join(', ')}`);
  }
  const [from, to, by] = values as [number, number, number];
  const count = Math.max(0, Math.ceil((to - from) / by));
  if (count > MOST_RANGE) {
    throw new ZebraError('data', `chat template: it takes range() of ${count} numbers; ${MOST_RANGE} are allowed`);
  }
  return Array.from({ length: count }, (_, i) => from + i * by);
}

const MONTHS = 'January February March April May June July August September October November December'.split(' ');
const DAYS = 'Sunday Monday Tuesday Wednesday Thursday Friday Saturday'.split(' ');

/** The directives of C's strftime that chat templates use, in English and local time. */
function formatTime(time: Date, format: string): string {
  const two = (value: number) => String(value).padStart(2, '0');
  const directives: Record<string, string> = {
    Y: String(time.getFullYear()),
    y: two(time.getFullYear() % 100),
    m: two(time.getMonth() + 1),
    d: two(time.getDate()),
    B: MONTHS[time.getMonth()]!,
    b: MONTHS[time.getMonth()]!.slice(0, 3),
    A: DAYS[time.getDay()]!,
    a: DAYS[time.getDay()]!.slice(0, 3),
    H: two(time.getHours()),
    I: two(time.getHours() % 12 || 12),
    p: time.getHours() < 12 ? 'AM' : 'PM',
    M: two(time.getMinutes()),
    S: two(time.getSeconds()),
    '%': '%',
  };
  return format.replace(/%([A-Za-z%])/g, (whole, letter: string) => directives[letter] ?? whole);
}
