/** What went wrong, as a stable word that programs may switch on. */
export type SafetensorsErrorCode =
  /** The file ends before its header, or before the data its header promises. */
  | 'truncated'
  /** The declared header length is above the limit (100 MB unless told otherwise). */
  | 'header_too_large'
  /** The header isn't UTF-8 JSON of the documented form. */
  | 'invalid_header'
  /** `data_offsets` are missing, reversed, not integers, outside the data, or contradict dtype × shape. */
  | 'bad_offsets'
  /** Two tensors claim the same bytes. */
  | 'overlap'
  /** Some bytes of the data belong to no tensor. */
  | 'hole'
  /** A dtype is unknown, or the operation doesn't support it. */
  | 'dtype'
  /** A shape is missing, negative, fractional, or too large to address. */
  | 'shape'
  /** A name occurs twice: in a header, in an index, between shards, or among the tensors to write. */
  | 'duplicate'
  /** No tensor of that name. */
  | 'missing_tensor'
  /** A shard that the index names isn't there. */
  | 'missing_shard'
  /** A shard holds a tensor that the index doesn't list. */
  | 'unlisted_tensor'
  /** A file name in an index, or the link it stands for, leaves the folder. */
  | 'shard_path'
  /** `model.safetensors.index.json` isn't of the documented form, or several kinds of problem came together. */
  | 'invalid_index'
  /** More bytes than this JavaScript engine can hold in one array, or than an option allows. */
  | 'limit'
  /** The data given for a tensor has another length than its dtype and shape say. */
  | 'data_length'
  /** A number that the target dtype can't hold (300 as U8, 0.5 as I32). */
  | 'value'
  /** The file or folder doesn't exist. */
  | 'not_found'
  /** The disk or quota is full; the file that was there before is untouched. */
  | 'disk_full'
  /** Any other failure of the file system; `cause` holds it. */
  | 'io'
  /** The file was closed before this use. */
  | 'closed'
  /** An argument isn't usable; the message says which. */
  | 'argument';

/** The parts from which an error's message is made. */
export interface SafetensorsErrorParts {
  /** What is wrong, as a clause without a full stop. */
  problem: string;
  /** The file's name or path. */
  file?: string | undefined;
  /** The tensor's name, unquoted. */
  tensor?: string | undefined;
  expected?: string | undefined;
  got?: string | undefined;
  /** What the reader of the message can do. */
  fix?: string | undefined;
  cause?: unknown;
  /** The single problems, where one error reports several. */
  problems?: readonly SafetensorsError[] | undefined;
}

const brand = Symbol.for('@zebra/tensor/SafetensorsError');

/** What `ZebraError.is` looks for: these are errors of the library like any other. */
const zebraBrand = Symbol.for('zebra.error');

/**
 * Every failure of this module. `message` says the file, the tensor, what was
 * expected, what came and what to do; `code` is for programs.
 */
export class SafetensorsError extends Error {
  readonly code: SafetensorsErrorCode;
  readonly file: string | undefined;
  readonly tensor: string | undefined;
  readonly expected: string | undefined;
  readonly got: string | undefined;
  /** The single problems where several are reported at once, otherwise empty. */
  readonly problems: readonly SafetensorsError[];

  constructor(code: SafetensorsErrorCode, parts: SafetensorsErrorParts) {
    super(composeMessage(parts), parts.cause === undefined ? undefined : { cause: parts.cause });
    this.name = 'SafetensorsError';
    this.code = code;
    this.file = parts.file;
    this.tensor = parts.tensor;
    this.expected = parts.expected;
    this.got = parts.got;
    this.problems = parts.problems ?? [];
    Object.defineProperty(this, brand, { value: true });
    Object.defineProperty(this, zebraBrand, { value: true });
  }

  /**
   * Whether `error` is one of these. Unlike `instanceof` it also recognises
   * errors of a second installed copy of this package.
   */
  static is(error: unknown): error is SafetensorsError {
    return typeof error === 'object' && error !== null && (error as Record<symbol, unknown>)[brand] === true;
  }
}

function composeMessage(parts: SafetensorsErrorParts): string {
  const where = [parts.file, parts.tensor === undefined ? undefined : `tensor ${show(parts.tensor)}`]
    .filter((part) => part !== undefined)
    .join(': ');
  let message = `safetensors: ${where === '' ? '' : `${where}: `}${parts.problem}`;
  const facts = [
    parts.expected === undefined ? undefined : `expected ${parts.expected}`,
    parts.got === undefined ? undefined : `got ${parts.got}`,
  ].filter((fact) => fact !== undefined);
  if (facts.length > 0) message += ` (${facts.join(', ')})`;
  message += '.';
  if (parts.fix !== undefined) message += ` ${parts.fix}.`;
  for (const problem of parts.problems ?? []) message += `\n  - ${problem.message.replace(/^safetensors: /, '')}`;
  return message;
}

/** A value quoted for a message: JSON, cut to a readable length, since names come from untrusted files. */
export function show(value: unknown): string {
  const text = typeof value === 'string' ? value : String(value);
  const cut = text.length > 120 ? `${text.slice(0, 120)}…` : text;
  return JSON.stringify(cut);
}

/** Several problems as one error; its code is theirs when they agree, otherwise `mixed`. Throws nothing when there are none. */
export function throwProblems(
  problems: readonly SafetensorsError[],
  parts: { problem: string; file?: string; fix?: string; mixed: SafetensorsErrorCode },
): void {
  const first = problems[0];
  if (first === undefined) return;
  const code = problems.every((problem) => problem.code === first.code) ? first.code : parts.mixed;
  throw new SafetensorsError(code, { problem: parts.problem, file: parts.file, fix: parts.fix, problems });
}

/** A failure of the file system as one of ours; errors that already are pass through. */
export function fromSystemError(error: unknown, file: string, doing: string): SafetensorsError {
  if (SafetensorsError.is(error)) return error;
  const code = (error as { code?: unknown } | null)?.code;
  if (code === 'ENOENT') {
    return new SafetensorsError('not_found', {
      problem: `${doing} failed, there is no such file or folder`,
      file,
      fix: 'Check the path',
      cause: error,
    });
  }
  if (code === 'ENOSPC' || code === 'EDQUOT') {
    return new SafetensorsError('disk_full', {
      problem: `${doing} failed, the disk or quota is full`,
      file,
      fix: 'Free some space and write again; what was saved there before is unchanged',
      cause: error,
    });
  }
  return new SafetensorsError('io', {
    problem: `${doing} failed: ${error instanceof Error ? error.message : String(error)}`,
    file,
    cause: error,
  });
}
