import { type Device, keep, type Tensor, ZebraError, zeros } from '@zebra/tensor';
import type { MixerState } from '@zebra/tensor/nn';
import type { Mamba2Sizes } from './config.js';

/**
 * What a Mamba2 layer keeps between passes: constant in the sequence's length, float32. Make it with
 * `Mamba2Layer.newState`; it belongs to the caller, and no scope frees it.
 */
export class Mamba2State implements MixerState {
  readonly batch: number;
  /** The convolution's last four inputs, oldest first, [B, convSize, 4]. */
  readonly conv: Tensor;
  /** The state space's state, [B, H, P, N]. */
  readonly ssm: Tensor;
  readonly bytesPerToken = 0;
  readonly constantBytes: number;

  /** @internal */
  constructor(device: Device, sizes: Mamba2Sizes, batch: number) {
    if (!Number.isSafeInteger(batch) || batch < 1) {
      throw new ZebraError('argument', `Mamba2Layer.newState: batch must be a positive integer, got ${String(batch)}`);
    }
    this.batch = batch;
    this.conv = keep(zeros(device, [batch, sizes.convSize, sizes.convKernel]));
    this.ssm = keep(zeros(device, [batch, sizes.headCount, sizes.headDim, sizes.headDim]));
    this.constantBytes = (this.conv.byteLength + this.ssm.byteLength) / batch;
  }

  /** Bytes of all rows. */
  get byteLength(): number {
    return this.conv.byteLength + this.ssm.byteLength;
  }

  /** Back to the state before the first token. */
  reset(): void {
    for (const tensor of [this.conv, this.ssm]) tensor.device.clear({ ...tensor.range(), size: tensor.byteLength });
  }

  dispose(): void {
    this.conv.dispose();
    this.ssm.dispose();
  }

  [Symbol.dispose](): void {
    this.dispose();
  }
}
