const BRAND = Symbol.for('zebra.error');

/** What went wrong, as a stable word that programs can test for. */
export type ZebraErrorCode =
  | 'argument'
  | 'shape'
  | 'dtype'
  | 'disposed'
  | 'device'
  | 'memory'
  | 'program'
  | 'format'
  | 'data'
  | 'io';

/**
 * The error that the `@zebra/*` packages throw for bad input or an impossible request. Errors with codes of their own
 * (`SafetensorsError`, `InitError`, `PlacementError`) carry its brand too.
 *
 * The message says the operation, the argument, what was expected, what came, and what to do. Two copies of a package
 * in one process recognise each other's errors through {@link ZebraError.is}, which looks at a registered symbol and
 * not at the class.
 */
export class ZebraError extends Error {
  /** Stable word for programs. */
  readonly code: ZebraErrorCode;
  readonly [BRAND] = true;

  constructor(code: ZebraErrorCode, message: string, options?: ErrorOptions) {
    super(message, options);
    this.name = 'ZebraError';
    this.code = code;
  }

  /** Whether a value is a `ZebraError`, or a kindred error, of this or any other copy of a package. */
  static is(value: unknown): value is Error & { readonly code: string } {
    return typeof value === 'object' && value !== null && (value as Record<symbol, unknown>)[BRAND] === true;
  }
}
