import type { CaseInput } from '../../testing/index.js';

/** Sizes and masks of a case of attention; what is left out is the test's own default. */
export interface AttentionCase {
  readonly batch?: number;
  readonly queries: number;
  readonly keys?: number;
  readonly heads?: number;
  readonly keyHeads?: number;
  readonly keySize?: number;
  readonly valueSize?: number;
  readonly magnitude?: number;
  readonly segments?: (index: number, random: () => number) => number;
  readonly keySegments?: (index: number, random: () => number) => number;
  readonly keyLength?: number;
}

/** The last three inputs of the operation: segments of queries and keys, and the number of valid keys. */
export function maskInputs(c: AttentionCase, batch: number, keys: number): (CaseInput | undefined)[] {
  const int = (shape: number[], values: NonNullable<CaseInput['values']>): CaseInput => ({
    shape,
    dtype: 'int32',
    values,
  });
  return [
    c.segments && int([batch, c.queries], c.segments),
    c.keySegments && int([batch, keys], c.keySegments),
    c.keyLength === undefined ? undefined : int([1], () => c.keyLength!),
  ];
}
