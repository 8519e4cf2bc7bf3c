import { relativeError } from '@zebra/tensor/testing';

/** Counts what a script found wrong, and says each thing that it looked at. */
export class Checks {
  failures = 0;

  /** Fails where the error is over the limit or not a number. */
  check(name: string, error: number, limit: number): void {
    const ok = error <= limit;
    if (!ok) this.failures++;
    console.log(`${ok ? 'ok  ' : 'FAIL'} ${name}: ${error.toExponential(2)} (limit ${limit.toExponential(0)})`);
  }

  fail(what: string): void {
    this.failures++;
    console.log(`FAIL ${what}`);
  }
}

/** ‖got − wanted‖ / ‖wanted‖; infinite where `wanted` is all zero too: in these scripts that means that nothing ran. */
export function errorAgainst(got: ArrayLike<number>, wanted: ArrayLike<number>): number {
  const any = Array.prototype.some.call(wanted, (value) => value !== 0);
  return any ? relativeError(got, wanted) : Number.POSITIVE_INFINITY;
}
