import { tensor, zeros } from '../core/create.js';
import { keep, scope } from '../core/scope.js';
import type { Tensor } from '../core/tensor.js';
import type { Device } from '../device/device.js';
import { ZebraError } from '../errors.js';
import { advance, cacheWrite } from '../ops/cache-write/index.js';
import { reshape } from '../ops/reshape/index.js';
import type { Cache, CacheContext, MixerState } from './causal-lm.js';

/** The cache that models of this library use: a state a layer, and the lengths that all layers share, on the device. */
export class SequenceCache implements Cache {
  readonly batch: number;
  readonly capacity: number;
  readonly states: readonly MixerState[];
  private readonly device: Device;
  private readonly before: Tensor;
  private readonly after: Tensor;
  private readonly segments: Tensor;
  private hostLength = 0;
  private segmented = false;
  private spoiled = false;

  constructor(device: Device, batch: number, capacity: number, states: readonly MixerState[]) {
    this.device = device;
    this.batch = batch;
    this.capacity = capacity;
    this.states = states;
    this.before = keep(tensor(device, new Int32Array(1)));
    this.after = keep(tensor(device, new Int32Array(1)));
    this.segments = keep(zeros(device, [batch, capacity, 1], { dtype: 'int32' }));
  }

  get length(): number {
    return this.hostLength;
  }

  get bytesPerToken(): number {
    return this.states.reduce((sum, state) => sum + state.bytesPerToken, 0);
  }

  get constantBytes(): number {
    return this.states.reduce((sum, state) => sum + state.constantBytes, 0);
  }

  /**
   * Runs one pass over `count` new tokens a row: `f` gets the context that its layers need, and the lengths advance.
   *
   * @param segments int32 [B, count] of the new tokens, where rows hold padding or several documents
   * @throws ZebraError `argument` when the tokens do not fit, or after a pass that failed half-way
   */
  pass<T>(
    count: number,
    segments: Tensor | undefined,
    f: (context: CacheContext, states: readonly MixerState[]) => T,
  ): T {
    if (this.spoiled) {
      throw new ZebraError(
        'argument',
        'cache: an earlier pass failed half-way, so that its layers no longer agree. Make another one with newCache().',
      );
    }
    if (!this.device.capturing && this.hostLength + count > this.capacity) {
      throw new ZebraError(
        'argument',
        `cache: ${this.hostLength} + ${count} tokens do not fit its capacity of ${this.capacity}. Make it larger with newCache().`,
      );
    }
    if (this.segmented && !segments) {
      throw new ZebraError(
        'argument',
        'cache: earlier tokens came with segments (padding or documents), so these need theirs too',
      );
    }
    this.segmented ||= segments !== undefined;
    const fresh = this.hostLength === 0;
    this.spoiled = true;
    advance(this.after, count);
    if (segments) scope(() => cacheWrite(this.segments, reshape(segments, [this.batch, count, 1]), this.before));
    const keySegments = scope(() => reshape(this.segments, [this.batch, this.capacity]));
    const result = f({ length: this.before, keyLength: this.after, keySegments, fresh }, this.states);
    this.spoiled = false;
    advance(this.before, count);
    // A captured pass has not run yet: whoever replays it counts.
    if (!this.device.capturing) this.hostLength += count;
    return result;
  }

  /** Tells the host's count of tokens that a recorded program added. */
  noteReplayed(tokens: number): void {
    this.hostLength += tokens;
  }

  dispose(): void {
    for (const state of this.states) state.dispose();
    for (const item of [this.before, this.after, this.segments]) item.dispose();
  }
}
