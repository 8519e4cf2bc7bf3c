const brand = Symbol.for('zebra.error');

/** Thrown when a placement is asked for that cannot be. `ZebraError.is` recognises it. */
export class PlacementError extends Error {
  override readonly name = 'PlacementError';
  readonly [brand] = true;
  /** `argument`: the wrong kind of value; `data`: a score that is no number. */
  readonly code: 'argument' | 'data';
  /** The argument at fault. */
  readonly argument: string;

  constructor(code: 'argument' | 'data', argument: string, message: string) {
    super(message);
    this.code = code;
    this.argument = argument;
  }
}
