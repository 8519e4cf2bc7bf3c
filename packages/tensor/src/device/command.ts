import type { GpuBindGroupLayout, GpuComputePipeline } from './gpu-types.js';
import type { StorageRange } from './storage.js';

/** A compiled kernel variant. */
export interface Pipeline {
  readonly name: string;
  readonly pipeline: GpuComputePipeline;
  readonly layout: GpuBindGroupLayout;
}

/** One dispatch over fixed ranges. */
export interface DispatchCommand {
  readonly kind: 'dispatch';
  readonly pipeline: Pipeline;
  readonly bindings: readonly StorageRange[];
  /** Packed parameters, or undefined where the kernel has none. */
  readonly params: ArrayBuffer | undefined;
  readonly groups: readonly [number, number, number];
}

/** Copies `size` bytes from one range to another. */
interface CopyCommand {
  readonly kind: 'copy';
  readonly source: StorageRange;
  readonly target: StorageRange;
}

/** Writes zeros. */
interface ClearCommand {
  readonly kind: 'clear';
  readonly target: StorageRange;
}

/** What a device does with memory: run at once, or be recorded into a program. */
export type Command = DispatchCommand | CopyCommand | ClearCommand;

/** The ranges that a command touches. */
export function rangesOf(command: Command): readonly StorageRange[] {
  if (command.kind === 'dispatch') return command.bindings;
  if (command.kind === 'copy') return [command.source, command.target];
  return [command.target];
}
