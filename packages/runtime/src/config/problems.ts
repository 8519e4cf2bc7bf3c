import { ZebraError } from '@zebra/tensor';

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
    const list = this.found.length === 1 ? ` ${this.found[0]}` : `\n  ${this.found.join('\n  ')}`;
    throw new ZebraError('format', `${this.file}:${list}`);
  }
}

/** A value as short text for a message; `nothing` where a key is missing. */
export function showValue(value: unknown): string {
  if (value === undefined) return 'nothing';
  const text = typeof value === 'number' ? String(value) : (JSON.stringify(value) ?? typeof value);
  return text.length > 80 ? `${text.slice(0, 77)}…` : text;
}
