import type { Random } from '@zebra/tensor';

/** What one case hands to the library: files by name. Also what is kept of a failing case. */
export type FuzzFiles = Readonly<Record<string, string | Uint8Array>>;

/** One reader of untrusted input. */
export interface FuzzTarget {
  readonly name: string;
  /** How many of the cases it gets, in proportion to the others. */
  readonly share: number;
  /** The input of a case: something valid, made wrong. The same draws give the same files. */
  make(random: Random): FuzzFiles;
  /**
   * Hands the files to the library, and uses what comes back. Returning means that the input was valid; every error of
   * the library is a refusal; anything else thrown is a defect.
   *
   * @param folder an empty folder of the case's own, for readers that want one
   */
  run(files: FuzzFiles, folder: string): Promise<void> | void;
}

/** A rule that what came back must keep, whatever the input. */
export function must(holds: boolean, rule: string): void {
  if (!holds) throw new Error(`a rule is broken: ${rule}`);
}
