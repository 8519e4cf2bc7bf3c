import type { Device, DeviceInfo } from '@zebra/tensor';

/** What a case must at least do, counted from its mathematics and not from our kernels: the floor is made of it. */
export interface Work {
  /** Floating-point operations, a multiplication and an addition counted as two. */
  readonly flops: number;
  /** Bytes of inputs read once and outputs written once. */
  readonly bytes: number;
  /** Arithmetic it may use. Default float32. */
  readonly precision?: Precision;
  /** Tokens of a run, for a rate in tokens. */
  readonly tokens?: number;
}

/** What peaks of arithmetic are measured for. */
export type Precision = 'float32' | 'float16';

/** A case that is ready: its tensors are there, its program is captured. */
export interface Running {
  /** Queues one run, or (a promise) does one to its end. */
  run(): void | Promise<void>;
  dispose(): void;
}

/** One row of the table. */
export interface Case {
  /** What tells it from the other cases of its benchmark: sizes, dtype, variant. */
  readonly shape: string;
  readonly work: Work;
  /** Why it can't run, where that is known beforehand. */
  readonly skip?: string;
  prepare(device: Device): Running;
  /** Takes its samples itself, where a run can't be repeated in this process. `prepare` is not called then. */
  sample?(device: Device): Promise<readonly Sample[]>;
}

/** One run of a case that takes its samples itself, in milliseconds. */
export interface Sample {
  readonly time: number;
  /** Processor time, all threads together. */
  readonly cpu: number;
  /** Bytes of the device's memory that it needed. */
  readonly memory: number;
}

/** What the sizes of cases depend on. */
export interface Scale {
  /** Sizes for GPUs; otherwise those that a CPU does in milliseconds. */
  readonly large: boolean;
  /** The adapter computes in float16. */
  readonly float16: boolean;
}

/** A file of `src/benchmarks`. */
export interface Benchmark {
  readonly name: string;
  cases(scale: Scale): readonly Case[];
}

/** The sizes an adapter gets unless the command says otherwise. */
export function defaultScale(info: DeviceInfo): Scale {
  return { large: !info.software, float16: info.float16 };
}
