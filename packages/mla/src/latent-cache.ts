import { cacheWrite, type Device, keep, type Tensor, ZebraError, zeros } from '@zebra/tensor';
import type { CacheContext, ComputeDType, MixerState } from '@zebra/tensor/nn';
import type { MlaSizes } from './config.js';

/**
 * What an MLA layer keeps between passes: a row of `kvLoraRank + qkRopeHeadDim` numbers a token, the latent
 * (after its norm, where there is one) and the rotated key that all heads share. Make it with `MlaLayer.newState`.
 */
export class MlaState implements MixerState {
  readonly batch: number;
  /** Most tokens a row of the batch. */
  readonly capacity: number;
  readonly bytesPerToken: number;
  readonly constantBytes = 0;
  /** [B, capacity, kvLoraRank + qkRopeHeadDim]; zero where nothing has been written. */
  readonly rows: Tensor;

  /** @internal */
  constructor(device: Device, sizes: MlaSizes, batch: number, capacity: number, dtype: ComputeDType) {
    for (const [name, value] of Object.entries({ batch, capacity })) {
      if (!Number.isSafeInteger(value) || value < 1) {
        throw new ZebraError('argument', `MlaLayer.newState: ${name} must be a positive integer, got ${String(value)}`);
      }
    }
    if (capacity > sizes.maxPositions) {
      throw new ZebraError(
        'argument',
        `MlaLayer.newState: a capacity of ${capacity} tokens passes the layer's maxPositions of ${sizes.maxPositions}. Raise maxPositions in its config.`,
      );
    }
    this.batch = batch;
    this.capacity = capacity;
    this.rows = keep(zeros(device, [batch, capacity, sizes.cacheRowSize], { dtype }));
    this.bytesPerToken = this.rows.byteLength / (batch * capacity);
  }

  /** Appends rows [B, T, kvLoraRank + qkRopeHeadDim] behind those that the cache holds. */
  append(rows: Tensor, cache: CacheContext): void {
    cacheWrite(this.rows, rows, cache.length);
  }

  dispose(): void {
    this.rows.dispose();
  }

  [Symbol.dispose](): void {
    this.dispose();
  }
}
