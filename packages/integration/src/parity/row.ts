import { relativeError } from '@zebra/tensor/testing';

/** How far a result may be from its golden, as ‖a−b‖/‖b‖. */
export const TOLERANCE = {
  /** float32 forward passes of a few layers. */
  output: 2e-5,
  /** Far positions: the goldens carry PyTorch's float32 rotary angles. */
  far: 1e-4,
  gradient: 2e-4,
  /** Products of a float32 SVD. */
  initialisation: 2e-4,
  /** Losses of ten optimizer steps. */
  steps: 1e-4,
  /** Outputs with float16 weights and activations against the float32 goldens: 2⁻¹¹ at each rounding. */
  float16: 5e-3,
} as const;

/** One line of the parity table. */
export interface ParityRow {
  readonly case: string;
  readonly check: string;
  readonly error: number;
  readonly tolerance: number;
  readonly passed: boolean;
}

/** Compares numbers with a golden. */
export function compared(
  name: string,
  check: string,
  got: ArrayLike<number>,
  golden: ArrayLike<number>,
  tolerance: number,
): ParityRow {
  const error = relativeError(got, golden);
  return { case: name, check, error, tolerance, passed: error <= tolerance };
}

/** Compares token ids, which must be equal; the error is the share that differ. */
export function comparedExactly(
  name: string,
  check: string,
  got: readonly number[],
  golden: readonly number[],
): ParityRow {
  const wrong = golden.filter((token, i) => token !== got[i]).length + Math.max(0, got.length - golden.length);
  return { case: name, check, error: wrong / golden.length, tolerance: 0, passed: wrong === 0 };
}

/** One row for many tensors: the worst of them, named. */
export function worst(name: string, check: string, rows: readonly ParityRow[]): ParityRow {
  const sorted = [...rows].sort((a, b) => b.error - a.error);
  const top = sorted[0];
  if (!top)
    return { case: name, check: `${check} (none found)`, error: Number.POSITIVE_INFINITY, tolerance: 0, passed: false };
  return { ...top, check: `${check}: ${rows.length}, worst ${top.check}`, passed: rows.every((row) => row.passed) };
}
