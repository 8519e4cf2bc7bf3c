import { ZebraError } from '../errors.js';
import { type Command, rangesOf } from './command.js';
import { bindGroupFor, CommandWriter, PARAM_STRIDE } from './encoder.js';
import type { GpuBindGroup, GpuBuffer, GpuCommandBuffer, GpuDevice } from './gpu-types.js';
import { mostAlive, shareMemory } from './plan.js';
import type { BufferPool } from './pool.js';
import { type KernelTime, profileCommands } from './profile.js';
import type { Recorder } from './recorder.js';
import type { Storage } from './storage.js';

/** What one recorded program costs. */
export interface ProgramStatistics {
  /** Dispatches in one replay. */
  readonly dispatches: number;
  /** Bytes that the program holds for its intermediates and outputs, after sharing by lifetime. */
  readonly workspaceBytes: number;
  /** Bytes they would take without sharing. */
  readonly unsharedBytes: number;
  /** Bytes that are alive at once, at most: no sharing could need less. */
  readonly leastBytes: number;
}

/**
 * A flat list of commands over fixed buffers: recorded once, replayed with no allocation, no new bind group and one
 * submit. Intermediates share memory by lifetime. Tensors from outside that it uses are kept alive by it; its outputs
 * live as long as it does.
 */
export class RecordedProgram {
  readonly statistics: ProgramStatistics;
  private readonly device: GpuDevice;
  private readonly pool: BufferPool;
  private readonly commands: readonly Command[];
  private readonly bindGroups: readonly (GpuBindGroup | undefined)[];
  private readonly made: ReadonlySet<Storage>;
  private readonly slots: Storage[] = [];
  private readonly retained = new Set<Storage>();
  private readonly uniform: GpuBuffer;
  private leastBytes = 0;
  private disposed = false;

  constructor(device: GpuDevice, pool: BufferPool, recorder: Recorder) {
    this.device = device;
    this.pool = pool;
    this.commands = recorder.commands;
    this.made = recorder.made;
    try {
      this.planMemory();
    } catch (error) {
      this.release();
      throw error;
    }
    const params = new Uint8Array(Math.max(1, this.commands.length) * PARAM_STRIDE);
    this.uniform = device.createBuffer({ size: params.byteLength, usage: 0x40 /* UNIFORM */ | 0x08 /* COPY_DST */ });
    this.bindGroups = this.commands.map((command, index) => {
      if (command.kind !== 'dispatch') return undefined;
      if (command.params) params.set(new Uint8Array(command.params), index * PARAM_STRIDE);
      return bindGroupFor(device, command, this.uniform, index * PARAM_STRIDE);
    });
    device.queue.writeBuffer(this.uniform, 0, params);
    this.statistics = {
      dispatches: this.commands.filter((command) => command.kind === 'dispatch').length,
      workspaceBytes: this.slots.reduce((sum, slot) => sum + slot.byteLength, 0),
      unsharedBytes: [...this.made].reduce((sum, storage) => sum + storage.byteLength, 0),
      leastBytes: this.leastBytes,
    };
  }

  /** Gives every recorded storage a buffer. Those without a handle left share theirs once their last use is past. */
  private planMemory(): void {
    const firstUse = new Map<Storage, number>();
    const lastUse = new Map<Storage, number>();
    this.commands.forEach((command, index) => {
      for (const { storage } of rangesOf(command)) {
        if (this.made.has(storage)) {
          if (!firstUse.has(storage)) firstUse.set(storage, index);
          lastUse.set(storage, index);
        } else if (!this.retained.has(storage)) this.retained.add(storage.retain());
      }
    });
    const end = this.commands.length;
    const lifetimes = [...lastUse].map(([item, used]) => {
      // What still has a handle is an output: it stays from its first use on.
      const last = item.references > 0 ? end : used;
      return { item, byteLength: item.byteLength, first: firstUse.get(item) as number, last };
    });
    this.leastBytes = mostAlive(lifetimes);
    const plan = shareMemory(lifetimes);
    this.pool.assertRoom(
      plan,
      [...lifetimes].map(({ item }) => item),
    );
    for (const { byteLength, items } of plan) {
      const slot = this.newSlot(byteLength, items[0]);
      for (const storage of items) storage.buffer = slot.buffer;
    }
  }

  private newSlot(bytes: number, largest: Storage | undefined): Storage {
    const slot = this.pool.allocate(bytes, { ...largest?.origin, program: true });
    this.slots.push(slot);
    return slot;
  }

  /** Encodes one replay. */
  encode(): GpuCommandBuffer {
    if (this.disposed) throw new ZebraError('disposed', 'Program.run: this program was disposed of');
    const writer = new CommandWriter(this.device);
    for (let i = 0; i < this.commands.length; i++) writer.write(this.commands[i] as Command, this.bindGroups[i]);
    return writer.finish();
  }

  /** Runs it once and says what each kernel took. */
  profile(): Promise<KernelTime[]> {
    if (this.disposed) throw new ZebraError('disposed', 'Program.profile: this program was disposed of');
    return profileCommands(this.device, this.commands, this.bindGroups);
  }

  dispose(): void {
    if (this.disposed) return;
    this.disposed = true;
    this.release();
    this.uniform.destroy();
  }

  private release(): void {
    for (const storage of this.made) storage.buffer = undefined;
    for (const slot of this.slots) slot.release();
    for (const storage of this.retained) storage.release();
  }
}
