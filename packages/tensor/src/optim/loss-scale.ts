import { tensor } from '../core/create.js';
import { keep } from '../core/scope.js';
import type { Tensor } from '../core/tensor.js';
import type { Device } from '../device/device.js';
import { ZebraError } from '../errors.js';

/** Options of {@link LossScale}. */
export interface LossScaleOptions {
  /** Scale of the first step. Default 65536. */
  readonly initial?: number;
  /** Factor on the scale after `interval` good steps in a row. Default 2. */
  readonly growth?: number;
  /** Factor on the scale after a step whose gradients overflowed. Default 0.5. */
  readonly backoff?: number;
  /** Good steps in a row after which the scale grows. Default 2000. */
  readonly interval?: number;
  /** Default 1. */
  readonly minimum?: number;
  /** Default 2²⁴. */
  readonly maximum?: number;
}

/** Where a loss scale stands. */
export interface LossScaleState {
  readonly scale: number;
  /** Steps since the scale last changed. */
  readonly goodSteps: number;
  /** Steps skipped so far because their gradients overflowed. */
  readonly skippedSteps: number;
}

/**
 * A dynamic loss scale, for models that compute in float16: the loss's gradient starts as the scale and not as 1, so
 * that small gradients stay above what float16 can hold, and the optimizer divides by it. Where a step's gradients
 * overflow, the optimizer skips the step and the scale falls; after many good steps it grows. Everything happens on the
 * device: no step waits for a number to be read. (Micikevicius et al., "Mixed Precision Training", 2018.)
 *
 * Give it to `AdamW` as `lossScale` and its `seed` to `valueAndGradients`; `train()` does both by its own option. The
 * caller owns it.
 */
export class LossScale {
  /** float32 [1]: the scale, as the seed of a backward pass. It stays this object's. */
  readonly seed: Tensor;
  /** @internal float32 [3]: {@link LossScaleState}, in its order. */
  readonly tensor: Tensor;
  readonly options: Required<LossScaleOptions>;

  /** @throws ZebraError `argument` for options that make no scale */
  constructor(device: Device, options: LossScaleOptions = {}) {
    const { initial = 65536, growth = 2, backoff = 0.5, interval = 2000, minimum = 1, maximum = 2 ** 24 } = options;
    this.options = { initial, growth, backoff, interval, minimum, maximum };
    const ordered = minimum > 0 && minimum <= initial && initial <= maximum && Number.isFinite(maximum);
    if (!ordered) {
      throw new ZebraError(
        'argument',
        `LossScale: 0 < minimum ≤ initial ≤ maximum must hold, got ${minimum}, ${initial}, ${maximum}`,
      );
    }
    if (!(growth >= 1 && Number.isFinite(growth) && backoff > 0 && backoff <= 1 && interval >= 1)) {
      throw new ZebraError(
        'argument',
        `LossScale: growth must be at least 1, backoff in (0, 1] and interval at least 1, got ${growth}, ${backoff}, ${interval}`,
      );
    }
    this.tensor = keep(tensor(device, [initial, 0, 0]));
    this.seed = keep(this.tensor.view({ shape: [1], dtype: 'float32' }));
  }

  /** A scale that never changes; overflows are skipped all the same. */
  static fixed(device: Device, scale: number): LossScale {
    return new LossScale(device, { initial: scale, minimum: scale, maximum: scale, growth: 1, backoff: 1 });
  }

  /** Reads where the scale stands, for a checkpoint. */
  async read(): Promise<LossScaleState> {
    const [scale, goodSteps, skippedSteps] = await this.tensor.read();
    return { scale: scale!, goodSteps: goodSteps!, skippedSteps: skippedSteps! };
  }

  /** Goes on from a state that was read; a scale outside of minimum and maximum is brought to the nearer of them. */
  write({ scale, goodSteps, skippedSteps }: LossScaleState): void {
    const { minimum, maximum } = this.options;
    this.tensor.write([Math.min(maximum, Math.max(minimum, scale)), goodSteps, skippedSteps]);
  }

  dispose(): void {
    this.seed.dispose();
    this.tensor.dispose();
  }
}
