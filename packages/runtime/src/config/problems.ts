import { ZebraError } from '@zebra/tensor';

/** Problems of one file that a message lists. */
const MOST_LISTED = 20;

/** Collects what is wrong with one file, so that its reader learns of everything at once. */
export class Problems {
  private readonly file: string;
  private readonly found: string[] = [];

  constructor(file: string) {
    this.file = file;
  }

  /** A key that holds something else than it must. */
  expected(key: string, expected: string, got: unknown): void {
    this.found.push(`${key}: expected ${expected}, got ${showValue(got)}`);
  }

  /** Throws ZebraError `format` with everything collected, if there is anything. */
  throwIfAny(): void {
    if (this.found.length === 0) return;
    const lines = this.found.slice(0, MOST_LISTED);
    if (this.found.length > MOST_LISTED) lines.push(`and ${this.found.length - MOST_LISTED} more`);
    const list = lines.length === 1 ? ` ${lines[0]}` : `\n  ${lines.join('\n  ')}`;
    throw new ZebraError('format', `${this.file}:${list}`);
  }
}

/** A value as short text for a message; `nothing` where a key is missing. */
export function showValue(value: unknown): string {
  if (value === undefined) return 'nothing';
  const text = typeof value === 'number' ? String(value) : jsonText(value);
  return text.length > 80 ? `${text.slice(0, 77)}…` : text;
}

function jsonText(value: unknown): string {
  try {
    return JSON.stringify(value) ?? typeof value;
  } catch {
    // Nested too deep for the stack.
    return Array.isArray(value) ? 'a list' : 'an object';
  }
}
