import type { DType } from '../core/dtype.js';
import type { TensorSpec } from '../core/shape.js';
import { ZebraError } from '../errors.js';
import type { Command, DispatchCommand } from './command.js';
import { EagerQueue } from './eager.js';
import type { GpuDevice, GpuSupportedLimits } from './gpu-types.js';
import { type Kernel, type KernelVariant, packParams } from './kernel.js';
import { piecesOf } from './pieces.js';
import { PipelineCache } from './pipelines.js';
import { poisonKernel } from './poison.js';
import { BufferPool, type PoolStatistics } from './pool.js';
import type { KernelTime } from './profile.js';
import { type ProgramStatistics, RecordedProgram } from './program.js';
import { Recorder } from './recorder.js';
import { settle } from './settle.js';
import type { Storage, StorageRange } from './storage.js';

/** Sizes of a product [m, k] · [k, n] that the matrix units of an adapter compute at once. */
export interface MatrixShape {
  readonly m: number;
  readonly n: number;
  readonly k: number;
}

/** What a device can do, read from its adapter. */
export interface DeviceInfo {
  readonly vendor: string;
  readonly architecture: string;
  readonly description: string;
  /** The adapter runs on CPU cores (SwiftShader, lavapipe): kernels take their barrier-free variants. */
  readonly software: boolean;
  /** float16 can be computed in, not only stored. */
  readonly float16: boolean;
  readonly subgroups: boolean;
  /** Invocations of a subgroup where that is fixed, as on most adapters; 0 where it varies, or without subgroups. */
  readonly subgroupSize: number;
  /** What matrix units multiply for one subgroup, float16 operands with float32 sums; empty without such units. */
  readonly subgroupMatrix: readonly MatrixShape[];
  /** The matrix units are emulated in plain WGSL, for tests of the kernels that use them. */
  readonly matrixEmulated: boolean;
  /** Bytes of memory that a workgroup may take. */
  readonly workgroupMemory: number;
  readonly timestamps: boolean;
}

/** Counters of a device; a step that leaks nothing leaves `liveBuffers` as it found it. */
export interface DeviceStatistics extends Readonly<PoolStatistics> {
  readonly dispatches: number;
  readonly submits: number;
  readonly pipelines: number;
}

/** What kernels and tests may override. */
export interface DeviceOptions {
  /** Fill fresh memory with NaN before use, so that a kernel that reads what it did not write is found. Default false. */
  readonly poison?: boolean;
  /** Treat the adapter as software (`true`) or hardware (`false`) when choosing kernel variants. Default: as it is. */
  readonly software?: boolean;
  /** Use subgroups where the adapter has them. Default true. */
  readonly subgroups?: boolean;
  /**
   * Bytes of memory to use at most, tensors and what is pooled for them: what would pass it is refused with an error that
   * names the largest items. WebGPU does not tell how much memory a GPU has. Default: no limit of our own.
   */
  readonly memoryLimit?: number;
  /**
   * Bytes that a kernel binds at once, at most, from 256 on. Larger tensors are bound in pieces, which is slower; for
   * tests of just that. Default: the adapter's limit.
   */
  readonly bindingLimit?: number;
  /**
   * Emulate matrix units in plain WGSL (slowly) where float16 is there, so that kernels meant for them can be tested on
   * any such adapter; subgroups count as not there then. Default false.
   */
  readonly emulateMatrixUnits?: boolean;
}

/** One range bound by a dispatch, with the dtype the kernel is to see. */
export interface BoundRange extends StorageRange {
  readonly dtype: DType;
}

/** Arguments of {@link Device.dispatch}. */
export interface DispatchOptions {
  readonly bindings: Readonly<Record<string, BoundRange | undefined>>;
  readonly params?: Readonly<Record<string, number>>;
  readonly constants?: Readonly<Record<string, number | boolean | string>>;
  /** Workgroups; a single number is spread over two dimensions where it passes 65,535. */
  readonly groups: number | readonly [number, number, number];
}

/** A captured step: replay it with {@link Program.run}. */
export interface Program<T> {
  /** What the captured function returned; its tensors are overwritten by every run and live as long as the program. */
  readonly result: T;
  readonly statistics: ProgramStatistics;
  run(): void;
  /**
   * Runs it once, kernel by kernel, and says what each took, longest first. For finding out where time goes: the sum is
   * more than a run takes. Needs an adapter with timestamps.
   */
  profile(): Promise<KernelTime[]>;
  dispose(): void;
  [Symbol.dispose](): void;
}

/** A WebGPU device with its memory pool, pipeline cache and command queue. Open one with `openDevice()`. */
export class Device {
  readonly gpu: GpuDevice;
  readonly info: DeviceInfo;
  readonly limits: GpuSupportedLimits;
  readonly poison: boolean;
  /** Bytes that a kernel binds at once, at most: larger tensors are bound in pieces. */
  readonly bindingLimit: number;
  private readonly pool: BufferPool;
  private readonly queue: EagerQueue;
  private readonly pipelines: PipelineCache;
  private recorder: Recorder | undefined;
  private operation: string | undefined;
  private failure: Error | undefined;
  private closed = false;

  constructor(gpu: GpuDevice, info: DeviceInfo, options: DeviceOptions = {}) {
    this.gpu = gpu;
    this.limits = gpu.limits;
    this.info = describeWith(info, options);
    this.poison = options.poison ?? false;
    this.bindingLimit = Math.min(options.bindingLimit ?? Infinity, gpu.limits.maxStorageBufferBindingSize);
    this.pipelines = new PipelineCache(gpu, this.info, this.bindingLimit);
    this.pool = new BufferPool(gpu, {
      maxBufferSize: gpu.limits.maxBufferSize,
      memoryLimit: options.memoryLimit,
      // More telling than the errors that follow it, from commands that use the buffer.
      onOutOfMemory: (error) => {
        if (!ZebraError.is(this.failure) || this.failure.code !== 'memory') this.failure = error;
      },
    });
    this.queue = new EagerQueue(gpu, this.pool, info.software);
    gpu.onuncapturederror = (event) => {
      this.failure ??= new ZebraError('device', `WebGPU: ${event.error.message}`);
    };
    void gpu.lost.then((lost) => {
      if (!this.closed) this.failure ??= new ZebraError('device', `the WebGPU device was lost: ${lost.message}`);
    });
  }

  /**
   * Memory for `bytes`, contents undefined (NaN with `poison`). The caller owns it.
   *
   * @param spec what will lie there, for reports
   * @throws ZebraError `memory` past the adapter's largest buffer or the device's `memoryLimit`
   */
  allocate(bytes: number, spec?: TensorSpec): Storage {
    this.assertOpen();
    const origin = { operation: this.operation, spec };
    const storage = this.recorder ? this.recorder.allocate(bytes, origin) : this.pool.allocate(bytes, origin);
    if (this.poison) this.fillPoison(storage);
    return storage;
  }

  /** @internal Memory that `f` allocates is reported as that of an operation, but where `f` names another. */
  naming<T>(operation: string, f: () => T): T {
    const outer = this.operation;
    this.operation = operation;
    try {
      return f();
    } finally {
      this.operation = outer;
    }
  }

  /** @internal Memory that is in use, for reports. */
  liveStorages(): Iterable<Storage> {
    return this.pool.live;
  }

  private fillPoison(storage: Storage): void {
    const words = storage.byteLength / 4;
    this.dispatch(poisonKernel, {
      bindings: { x: { storage, offset: 0, size: storage.byteLength, dtype: 'uint32' } },
      params: { count: words },
      groups: Math.ceil(words / 64),
    });
  }

  /** Runs a kernel over ranges, now or as part of the program being captured. */
  dispatch(kernel: Kernel, options: DispatchOptions): void {
    this.assertOpen();
    const present = Object.keys(kernel.bindings).filter((name) => options.bindings[name] !== undefined);
    const bindings = present.map((name) => options.bindings[name] as BoundRange);
    const large = bindings.some(({ size }) => size > this.bindingLimit);
    if (!large) {
      this.dispatchBound(kernel, options, present, bindings, bindings);
      return;
    }
    for (const part of this.pipelines.cutByItems(kernel, options, present)) {
      const ranges = present.map((name) => part.bindings[name] as BoundRange);
      const pieces = ranges.flatMap((range) => piecesOf(range, this.bindingLimit));
      this.dispatchBound(kernel, part, present, ranges, pieces);
    }
  }

  /** @param ranges what the kernel sees, by the names in `present`; `bindings` what is bound for it */
  private dispatchBound(
    kernel: Kernel,
    options: DispatchOptions,
    present: readonly string[],
    ranges: readonly BoundRange[],
    bindings: readonly BoundRange[],
  ): void {
    const pipeline = this.pipelines.get(kernel, present, ranges, options.constants ?? {});
    const command: DispatchCommand = {
      kind: 'dispatch',
      pipeline,
      bindings,
      params: kernel.params ? packParams(kernel, options.params ?? {}) : undefined,
      groups: this.spread(kernel, options.groups),
    };
    this.run(command);
  }

  /** Copies between ranges of equal size. */
  copy(source: StorageRange, target: StorageRange): void {
    this.run({ kind: 'copy', source, target });
  }

  /** Writes zeros. */
  clear(target: StorageRange): void {
    this.run({ kind: 'clear', target });
  }

  private run(command: Command): void {
    if (this.recorder) this.recorder.commands.push(command);
    else this.queue.run(command);
  }

  /** Writes host bytes. Not while a program is captured: they would be frozen into it. */
  write(range: StorageRange, bytes: Uint8Array): void {
    this.assertOpen();
    if (this.recorder) {
      throw new ZebraError(
        'program',
        'host data was written while a program is captured, and would be frozen into it. Make the tensor before, and change it with write() between runs.',
      );
    }
    this.queue.write(range, bytes);
  }

  /** Reads bytes once everything before has run. */
  async read(range: StorageRange): Promise<ArrayBuffer> {
    this.assertOpen();
    if (this.recorder)
      throw new ZebraError('program', 'a tensor was read while a program is captured; read it after a run');
    const bytes = await this.queue.read(range).catch((error: unknown) => {
      throw this.failure ?? error;
    });
    this.assertOpen();
    return bytes;
  }

  /** Whether a program is being captured. */
  get capturing(): boolean {
    return this.recorder !== undefined;
  }

  /**
   * Records what `f` dispatches, without running it, into a program that replays it. What changes between runs
   * (inputs, positions, learning rate) must be data in tensors made before and changed with `write()`.
   *
   * @throws ZebraError `program` when `f` writes host data, reads a tensor, or captures again.
   */
  capture<T>(f: () => T): Program<T> {
    this.assertOpen();
    if (this.recorder) throw new ZebraError('program', 'capture: a program is being captured already');
    const recorder = new Recorder();
    this.recorder = recorder;
    let result: T;
    try {
      result = f();
    } finally {
      this.recorder = undefined;
    }
    const program = new RecordedProgram(this.gpu, this.pool, recorder);
    return {
      result,
      statistics: program.statistics,
      run: () => {
        this.assertOpen();
        this.queue.submitAfter(() => program.encode());
      },
      profile: () => {
        this.assertOpen();
        this.queue.flush();
        return program.profile();
      },
      dispose: () => this.disposeProgram(program),
      [Symbol.dispose]: () => this.disposeProgram(program),
    };
  }

  private disposeProgram(program: RecordedProgram): void {
    this.queue.flush();
    program.dispose();
  }

  /** Submits pending work without waiting. */
  flush(): void {
    this.queue.flush();
  }

  /** Waits until everything submitted has run. */
  async synchronize(): Promise<void> {
    this.queue.flush();
    await settle(this.gpu.queue.onSubmittedWorkDone(), this.queue.software);
    this.assertOpen();
  }

  statistics(): DeviceStatistics {
    return {
      ...this.pool.statistics,
      dispatches: this.queue.dispatches,
      submits: this.queue.submits,
      pipelines: this.pipelines.count,
    };
  }

  /** Gives pooled memory back to the driver. */
  trim(): void {
    this.queue.flush();
    this.pool.trim();
    this.pool.afterSubmit();
  }

  /** Ends the device; every tensor on it becomes unusable. */
  destroy(): void {
    this.queue.flush();
    this.closed = true;
    this.gpu.destroy();
  }

  private assertOpen(): void {
    if (this.closed) throw new ZebraError('device', 'this device was destroyed');
    if (this.failure) throw this.failure;
  }

  private spread(
    kernel: Kernel,
    groups: number | readonly [number, number, number],
  ): readonly [number, number, number] {
    if (typeof groups !== 'number') return groups;
    const most = this.limits.maxComputeWorkgroupsPerDimension;
    if (groups <= most) return [groups, 1, 1];
    const y = Math.ceil(groups / most);
    if (y > most)
      throw new ZebraError(
        'memory',
        `kernel ${kernel.name}: ${groups} workgroups are more than the adapter can dispatch`,
      );
    return [most, y, 1];
  }

  /** Invocations of a workgroup of a kernel on this device, for its callers to count workgroups. */
  workgroupOf(kernel: Kernel, variant?: Partial<KernelVariant>): number {
    return this.pipelines.workgroupOf(kernel, variant?.constants);
  }
}

/** Invocations of an emulated subgroup: as many as those of most GPUs with matrix units have. */
const EMULATED_LANES = 32;

/** What an adapter can do, less what the options hide, or with the matrix units that they add. */
function describeWith(info: DeviceInfo, options: DeviceOptions): DeviceInfo {
  const software = options.software ?? info.software;
  if (options.emulateMatrixUnits && info.float16) {
    const emulated = { subgroupSize: EMULATED_LANES, subgroupMatrix: [{ m: 16, n: 16, k: 16 }], matrixEmulated: true };
    return { ...info, software, subgroups: false, ...emulated };
  }
  const subgroups = info.subgroups && options.subgroups !== false;
  return {
    ...info,
    software,
    subgroups,
    subgroupSize: subgroups ? info.subgroupSize : 0,
    subgroupMatrix: subgroups ? info.subgroupMatrix : [],
  };
}
