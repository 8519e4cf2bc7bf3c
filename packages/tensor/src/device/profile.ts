import { ZebraError } from '../errors.js';
import type { Command } from './command.js';
import { CommandWriter } from './encoder.js';
import type { GpuBindGroup, GpuDevice } from './gpu-types.js';

/** Time that the dispatches of one kernel took in one run of a program. */
export interface KernelTime {
  /** The kernel's name; `copy and clear` for what is no dispatch. */
  readonly name: string;
  readonly dispatches: number;
  readonly milliseconds: number;
}

/** Timestamps of a query set, at most: WebGPU's limit. */
const QUERIES = 4096;

/**
 * Runs commands once, each dispatch in a pass of its own between two timestamps, and adds up what each kernel took.
 * Passes cost time of their own and keep dispatches from overlapping, so that the sum is more than a run takes.
 */
export async function profileCommands(
  gpu: GpuDevice,
  commands: readonly Command[],
  bindGroups: readonly (GpuBindGroup | undefined)[],
): Promise<KernelTime[]> {
  if (!gpu.features.has('timestamp-query')) {
    throw new ZebraError('device', 'Program.profile: this adapter has no timestamps (timestamp-query)');
  }
  const totals = new Map<string, { dispatches: number; milliseconds: number }>();
  const most = QUERIES / 2;
  for (let first = 0; first < commands.length; first += most) {
    const part = commands.slice(first, first + most);
    const times = await timesOf(gpu, part, bindGroups.slice(first, first + most));
    part.forEach((command, index) => {
      const name = command.kind === 'dispatch' ? command.pipeline.name : 'copy and clear';
      const total = totals.get(name) ?? { dispatches: 0, milliseconds: 0 };
      totals.set(name, total);
      total.dispatches++;
      total.milliseconds += times[index]!;
    });
  }
  return [...totals]
    .map(([name, total]) => ({ name, ...total }))
    .sort((one, other) => other.milliseconds - one.milliseconds);
}

/** Milliseconds of each command; 0 for copies, which have no timestamps. */
async function timesOf(
  gpu: GpuDevice,
  commands: readonly Command[],
  bindGroups: readonly (GpuBindGroup | undefined)[],
): Promise<number[]> {
  const querySet = gpu.createQuerySet({ type: 'timestamp', count: QUERIES });
  const size = QUERIES * 8;
  const resolved = gpu.createBuffer({ size, usage: 0x200 /* QUERY_RESOLVE */ | 0x04 /* COPY_SRC */ });
  const staging = gpu.createBuffer({ size, usage: 0x01 /* MAP_READ */ | 0x08 /* COPY_DST */ });
  try {
    const writer = new CommandWriter(gpu);
    commands.forEach((command, index) => {
      writer.writeTimed(command, bindGroups[index], {
        querySet,
        beginningOfPassWriteIndex: 2 * index,
        endOfPassWriteIndex: 2 * index + 1,
      });
    });
    gpu.queue.submit([writer.finish()]);
    const encoder = gpu.createCommandEncoder();
    encoder.resolveQuerySet(querySet, 0, 2 * commands.length, resolved, 0);
    encoder.copyBufferToBuffer(resolved, 0, staging, 0, size);
    gpu.queue.submit([encoder.finish()]);
    await staging.mapAsync(0x01);
    const nanoseconds = new BigUint64Array(staging.getMappedRange());
    return commands.map((command, index) =>
      command.kind === 'dispatch' ? Number(nanoseconds[2 * index + 1]! - nanoseconds[2 * index]!) / 1e6 : 0,
    );
  } finally {
    querySet.destroy();
    resolved.destroy();
    staging.destroy();
  }
}
