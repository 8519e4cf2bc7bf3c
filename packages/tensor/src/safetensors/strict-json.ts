/**
 * A JSON reader for untrusted headers. `JSON.parse` keeps the last of two equal
 * keys, moves integer-like keys to the front, and can't tell 1 from 1.0; this
 * one refuses duplicate keys, keeps the order, and gives objects as Maps, so
 * that a key named `__proto__` is a key like any other.
 */

/** A number that isn't written as a plain non-negative safe integer; it keeps its text for messages. */
export class OtherNumber {
  constructor(readonly text: string) {}
}

/** A `number` here is always a non-negative safe integer; all other numbers are `OtherNumber`. */
export type StrictJson = null | boolean | number | OtherNumber | string | StrictJson[] | Map<string, StrictJson>;

export class StrictJsonError extends Error {
  constructor(
    readonly kind: 'syntax' | 'duplicate',
    message: string,
    readonly key?: string,
  ) {
    super(message);
  }
}

/** Nesting that a header or an index ever needs is 3. */
const maxDepth = 16;
const numberPattern = /-?(?:0|[1-9][0-9]*)(?:\.[0-9]+)?(?:[eE][+-]?[0-9]+)?/y;
const loneSurrogate = /\p{Surrogate}/u;

/** Parses one JSON value with nothing but white space around it. Throws `StrictJsonError`. */
export function parseStrictJson(text: string): StrictJson {
  let at = 0;

  const fail = (expected: string): never => {
    const got = at < text.length ? JSON.stringify(text.slice(at, at + 12)) : 'the end of the text';
    throw new StrictJsonError('syntax', `expected ${expected} at character ${at}, got ${got}`);
  };

  const skipSpace = (): void => {
    for (; at < text.length; at++) {
      const code = text.charCodeAt(at);
      if (code !== 0x20 && code !== 0x0a && code !== 0x0d && code !== 0x09) return;
    }
  };

  const take = (character: string): boolean => {
    skipSpace();
    if (text[at] !== character) return false;
    at++;
    return true;
  };

  // A plain loop: a regular expression over a 100 MB string could exhaust the stack.
  const readString = (): string => {
    skipSpace();
    if (text[at] !== '"') fail('a string');
    const start = at;
    let escaped = false;
    for (let i = at + 1; i < text.length; i++) {
      const code = text.charCodeAt(i);
      if (code === 0x22) {
        let value = text.slice(start + 1, i);
        if (escaped) {
          try {
            value = JSON.parse(text.slice(start, i + 1)) as string;
          } catch {
            return fail('a string with valid escapes');
          }
          if (loneSurrogate.test(value)) return fail('a string of whole Unicode characters');
        }
        at = i + 1;
        return value;
      }
      if (code === 0x5c) {
        escaped = true;
        i++;
      } else if (code < 0x20) {
        at = i;
        return fail('no control character inside a string');
      }
    }
    at = text.length;
    return fail('a closing "');
  };

  const readNumber = (): number | OtherNumber => {
    numberPattern.lastIndex = at;
    const token = numberPattern.exec(text)?.[0];
    if (token === undefined) return fail('a value');
    at += token.length;
    const value = /^[0-9]+$/.test(token) ? Number(token) : NaN;
    return Number.isSafeInteger(value) ? value : new OtherNumber(token);
  };

  const readObject = (depth: number): Map<string, StrictJson> => {
    const members = new Map<string, StrictJson>();
    if (take('}')) return members;
    do {
      const key = readString();
      if (members.has(key)) throw new StrictJsonError('duplicate', `the key ${JSON.stringify(key)} occurs twice`, key);
      if (!take(':')) fail('":"');
      members.set(key, readValue(depth));
    } while (take(','));
    if (!take('}')) fail('"," or "}"');
    return members;
  };

  const readArray = (depth: number): StrictJson[] => {
    const items: StrictJson[] = [];
    if (take(']')) return items;
    do items.push(readValue(depth));
    while (take(','));
    if (!take(']')) fail('"," or "]"');
    return items;
  };

  const readValue = (depth: number): StrictJson => {
    skipSpace();
    const first = text[at];
    if (first === '{' || first === '[') {
      if (depth === maxDepth) fail(`at most ${maxDepth} levels of nesting`);
      at++;
      return first === '{' ? readObject(depth + 1) : readArray(depth + 1);
    }
    if (first === '"') return readString();
    for (const [word, value] of [
      ['null', null],
      ['true', true],
      ['false', false],
    ] as const) {
      if (text.startsWith(word, at)) {
        at += word.length;
        return value;
      }
    }
    return readNumber();
  };

  const value = readValue(0);
  skipSpace();
  if (at < text.length) fail('the end of the text');
  return value;
}

/** A JSON value named for a message: its text when short, otherwise its kind. */
export function describeJson(value: StrictJson | undefined): string {
  if (value === undefined) return 'nothing';
  if (value instanceof OtherNumber) return value.text.slice(0, 40);
  if (value instanceof Map) return 'an object';
  if (Array.isArray(value))
    return value.length > 8 ? `an array of ${value.length}` : `[${value.map(describeJson).join(', ')}]`;
  return typeof value === 'string' ? JSON.stringify(value.slice(0, 80)) : String(value);
}
