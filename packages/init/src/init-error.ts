const brand = Symbol.for('zebra.error');

/** What an {@link InitError} is made of. */
export interface InitErrorDetails {
  /** `argument`: an option; `shape`: a size that contradicts another; `data`: values that cannot be worked with. */
  readonly code: 'argument' | 'shape' | 'data';
  /** The function that refused. */
  readonly operation: string;
  /** The argument, option or tensor at fault. */
  readonly argument: string;
  /** What was expected of it. */
  readonly expected: string;
  /** What came instead. */
  readonly got: string;
  /** What the caller can do. */
  readonly advice: string;
}

/**
 * Thrown by every function of this package that is given something it cannot work with. `ZebraError.is` recognises it.
 */
export class InitError extends Error implements InitErrorDetails {
  override readonly name = 'InitError';
  readonly [brand] = true;
  readonly code: InitErrorDetails['code'];
  readonly operation: string;
  readonly argument: string;
  readonly expected: string;
  readonly got: string;
  readonly advice: string;

  constructor(details: InitErrorDetails) {
    const { code, operation, argument, expected, got, advice } = details;
    super(`${operation}: ${argument}: expected ${expected}, got ${got}. ${advice}`);
    this.code = code;
    this.operation = operation;
    this.argument = argument;
    this.expected = expected;
    this.got = got;
    this.advice = advice;
  }
}

/** Something the conversion did that the caller should know of; the result is usable. */
export interface InitWarning {
  readonly code:
    | 'bias-dropped'
    | 'bias-folded'
    | 'norm-folded'
    | 'tensor-ignored'
    | 'rank-above-numerical-rank'
    | 'nope-rows-dropped'
    | 'nope-rows-padded';
  /** The tensor or option that it is about. */
  readonly argument: string;
  readonly message: string;
}
