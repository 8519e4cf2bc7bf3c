import type { BoundRange, Device } from '../device/device.js';
import type { Storage } from '../device/storage.js';
import { ZebraError } from '../errors.js';
import { BYTES, type DType, type HostData } from './dtype.js';
import { decodeBytes, encodeBytes } from './encoding.js';
import { enterScope, leaveScope } from './scope.js';
import { elementCount, type Shape, showShape, type TensorSpec } from './shape.js';

let nextId = 1;

/** What `read()` gives for a dtype: integers as they are, every float as float32. */
export type ReadData = Float32Array | Int32Array | Uint32Array;

/**
 * An array on a device: row-major, contiguous, of fixed shape and dtype.
 *
 * Tensors are values: operations never consume their inputs. Memory is freed by `dispose()`, by `using`, or by the
 * scope that made the tensor; a disposed tensor throws when used. Views (`reshape`) share memory and count references.
 */
export class Tensor implements TensorSpec {
  readonly device: Device;
  readonly shape: Shape;
  readonly dtype: DType;
  /** Number of elements. */
  readonly size: number;
  /** Bytes from the start of the storage. */
  readonly offset: number;
  /** Identity for the gradient tape; handles that alias the same value share it. */
  readonly id: number;
  readonly storage: Storage;
  private alive = true;

  /** @internal Takes over one reference of `storage`. */
  constructor(device: Device, storage: Storage, spec: TensorSpec, offset = 0, id = nextId++) {
    this.device = device;
    this.storage = storage;
    this.shape = spec.shape;
    this.dtype = spec.dtype;
    this.size = elementCount(spec.shape);
    this.offset = offset;
    this.id = id;
    enterScope(this);
  }

  /** Bytes of the elements. */
  get byteLength(): number {
    return this.size * BYTES[this.dtype];
  }

  get disposed(): boolean {
    return !this.alive;
  }

  /** The range that kernels bind. Throws on a disposed tensor. */
  range(): BoundRange {
    this.assertUsable();
    const size = Math.min(Math.ceil(this.byteLength / 16) * 16, this.storage.byteLength - this.offset);
    return { storage: this.storage, offset: this.offset, size, dtype: this.dtype };
  }

  /** Another handle on the same value, to be disposed of on its own. */
  alias(): Tensor {
    this.assertUsable();
    return new Tensor(this.device, this.storage.retain(), this, this.offset, this.id);
  }

  /** @internal A new value that shares this one's memory. */
  view(spec: TensorSpec, offsetBytes = 0): Tensor {
    this.assertUsable();
    return new Tensor(this.device, this.storage.retain(), spec, this.offset + offsetBytes);
  }

  /**
   * Reads the elements back: float32 for every float dtype, otherwise as they are. Waits for the device; the only
   * asynchronous step there is.
   */
  async read(): Promise<ReadData> {
    const { dtype, size } = this;
    const range = this.range();
    const bytes = await this.device.read({ ...range, size: Math.ceil(this.byteLength / 4) * 4 });
    return decodeBytes(new Uint8Array(bytes, 0, size * BYTES[dtype]), dtype);
  }

  /** Reads a tensor of one element. */
  async item(): Promise<number> {
    if (this.size !== 1)
      throw new ZebraError('shape', `item: expected one element, got shape ${showShape(this.shape)}`);
    return (await this.read())[0] as number;
  }

  /** Replaces the contents with host values (as many as there are elements). */
  write(data: HostData): void {
    if (data.length !== this.size) {
      throw new ZebraError(
        'shape',
        `write: shape ${showShape(this.shape)} has ${this.size} elements, got ${data.length} values`,
      );
    }
    this.assertUsable();
    this.device.write(this.range(), encodeBytes(data, this.dtype));
  }

  /** Gives up this handle; the memory is freed with the last one. Disposing twice is harmless. */
  dispose(): void {
    if (!this.alive) return;
    this.alive = false;
    leaveScope(this);
    this.storage.release();
  }

  [Symbol.dispose](): void {
    this.dispose();
  }

  toString(): string {
    return `Tensor(${this.dtype}, ${showShape(this.shape)}${this.alive ? '' : ', disposed'})`;
  }

  private assertUsable(): void {
    if (!this.alive) {
      throw new ZebraError(
        'disposed',
        `a disposed tensor (${this.dtype}, ${showShape(this.shape)}) was used. keep() it, return it from its scope(), or dispose of it later.`,
      );
    }
    if (!this.storage.buffer && !this.device.capturing) {
      throw new ZebraError(
        'disposed',
        `a tensor (${showShape(this.shape)}) of a disposed or unfinished program was used`,
      );
    }
  }
}
