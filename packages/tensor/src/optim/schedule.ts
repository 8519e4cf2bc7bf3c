import { ZebraError } from '../errors.js';

/** Factor on the peak learning rate at a step, counted from 0. */
export type Schedule = (step: number) => number;

/** Options of {@link cosineSchedule}. */
export interface CosineOptions {
  /** Optimizer steps in all. */
  readonly steps: number;
  /** Share of the steps (below 1) or number of steps that warm up. Default 0.01 of the steps. */
  readonly warmUp?: number;
  /** Factor at the end. Default 0. */
  readonly final?: number;
}

/**
 * Linear warm-up, then a half cosine down. Step k of a warm-up of w has factor (k+1)/w, so that no step is wasted at
 * rate 0; after it, final + (1 − final)·½(1 + cos(π·progress)), which would reach `final` at step `steps`.
 *
 * @throws ZebraError `argument`
 */
export function cosineSchedule({ steps, warmUp = 0.01, final = 0 }: CosineOptions): Schedule {
  if (!(steps >= 1) || !(warmUp >= 0) || !(final >= 0)) {
    throw new ZebraError(
      'argument',
      `cosineSchedule: steps ${steps}, warmUp ${warmUp} and final ${final} must not be negative, steps at least 1`,
    );
  }
  const warm = warmUp < 1 ? Math.ceil(warmUp * steps) : warmUp;
  return (step) => {
    if (step < warm) return (step + 1) / warm;
    const progress = Math.min(1, (step - warm) / Math.max(1, steps - warm));
    return final + (1 - final) * 0.5 * (1 + Math.cos(Math.PI * progress));
  };
}

/** Linear warm-up over `warmUp` steps, then factor 1. */
export function constantSchedule(warmUp = 0): Schedule {
  return (step) => (step < warmUp ? (step + 1) / warmUp : 1);
}
