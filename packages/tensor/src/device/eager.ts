import type { Command } from './command.js';
import { bindGroupFor, CommandWriter, PARAM_STRIDE } from './encoder.js';
import type { GpuBindGroup, GpuBuffer, GpuCommandBuffer, GpuDevice } from './gpu-types.js';
import { piecesOf } from './pieces.js';
import type { BufferPool } from './pool.js';
import { settle } from './settle.js';
import type { StorageRange } from './storage.js';

const MAX_PENDING = 512;

/** Bytes that go between host and device at once: drivers stage them, and do not take any size. */
const TRANSFER_BYTES = 2 ** 28;

/**
 * Runs commands as they come: they gather in one encoder and one compute pass, and are submitted when something is
 * read, when a host write would overtake them, or when there are many. Parameters of the gathered dispatches lie in
 * one uniform buffer that is written just before the submit.
 */
export class EagerQueue {
  private readonly device: GpuDevice;
  private readonly pool: BufferPool;
  readonly software: boolean;
  private readonly transferBytes: number;
  private readonly uniform: GpuBuffer;
  private readonly params = new Uint8Array(MAX_PENDING * PARAM_STRIDE);
  private writer: CommandWriter | undefined;
  private pending = 0;
  dispatches = 0;
  submits = 0;

  /** @param transferBytes most bytes that go between host and device at once, a multiple of 256 */
  constructor(device: GpuDevice, pool: BufferPool, software: boolean, transferBytes = TRANSFER_BYTES) {
    this.device = device;
    this.software = software;
    this.transferBytes = transferBytes;
    this.pool = pool;
    this.uniform = device.createBuffer({
      size: this.params.byteLength,
      usage: 0x40 /* UNIFORM */ | 0x08 /* COPY_DST */,
    });
  }

  run(command: Command): void {
    this.writer ??= new CommandWriter(this.device);
    let bindGroup: GpuBindGroup | undefined;
    if (command.kind === 'dispatch') {
      this.dispatches++;
      const offset = this.pending * PARAM_STRIDE;
      if (command.params) this.params.set(new Uint8Array(command.params), offset);
      bindGroup = bindGroupFor(this.device, command, this.uniform, offset);
    }
    this.writer.write(command, bindGroup);
    if (++this.pending >= MAX_PENDING) this.flush();
  }

  /** Submits what is pending. */
  flush(): void {
    if (!this.writer) return;
    this.device.queue.writeBuffer(this.uniform, 0, this.params, 0, this.pending * PARAM_STRIDE);
    const commands = this.writer.finish();
    this.writer = undefined;
    this.pending = 0;
    this.submits++;
    this.device.queue.submit([commands]);
    this.pool.afterSubmit();
  }

  /** Writes host bytes to a range. Pending commands go first, so that the write cannot overtake them. */
  write(range: StorageRange, bytes: Uint8Array): void {
    this.flush();
    const buffer = range.storage.buffer as GpuBuffer;
    for (let at = 0; at < bytes.byteLength; at += this.transferBytes) {
      const count = Math.min(this.transferBytes, bytes.byteLength - at);
      this.device.queue.writeBuffer(buffer, range.offset + at, bytes, at, count);
    }
  }

  /** Reads a range once everything before it has run. */
  async read(range: StorageRange): Promise<ArrayBuffer> {
    // All of it is copied out now: what runs later must not change what is read.
    const pieces = piecesOf({ ...range, size: Math.ceil(range.size / 4) * 4 }, this.transferBytes).map((piece) => {
      const usage = 0x01 /* MAP_READ */ | 0x08; /* COPY_DST */
      return { piece, staging: this.device.createBuffer({ size: piece.size, usage }) };
    });
    this.writer ??= new CommandWriter(this.device);
    for (const { piece, staging } of pieces) this.writer.copyOut(piece, staging);
    this.flush();
    try {
      const mapped: ArrayBuffer[] = [];
      for (const { staging } of pieces) {
        await settle(staging.mapAsync(0x01), this.software);
        mapped.push(staging.getMappedRange());
      }
      const [only] = mapped;
      if (only && mapped.length === 1) return only.slice(0);
      const whole = new Uint8Array(mapped.reduce((sum, { byteLength }) => sum + byteLength, 0));
      mapped.forEach((bytes, k) => {
        whole.set(new Uint8Array(bytes), k * this.transferBytes);
      });
      return whole.buffer;
    } finally {
      for (const { staging } of pieces) staging.destroy();
    }
  }

  /** Submits the work that `encode` writes, after what is pending. */
  submitAfter(encode: () => GpuCommandBuffer): void {
    this.flush();
    this.submits++;
    this.device.queue.submit([encode()]);
    this.pool.afterSubmit();
  }
}
