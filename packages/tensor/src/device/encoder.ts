import type { Command, DispatchCommand } from './command.js';
import type { GpuBindGroup, GpuBuffer, GpuCommandBuffer, GpuDevice, GpuQuerySet } from './gpu-types.js';
import type { StorageRange } from './storage.js';

/** Bytes of one parameter block: the strictest `minUniformBufferOffsetAlignment` that WebGPU allows. */
export const PARAM_STRIDE = 256;

/** Where a pass writes its times. */
interface TimestampWrites {
  readonly querySet: GpuQuerySet;
  readonly beginningOfPassWriteIndex: number;
  readonly endOfPassWriteIndex: number;
}

/** The WebGPU entries of a dispatch's bind group, with its parameters at `uniform`. */
export function bindGroupFor(
  device: GpuDevice,
  command: DispatchCommand,
  uniform: GpuBuffer | undefined,
  uniformOffset: number,
): GpuBindGroup {
  const entries: GPUBindGroupEntry[] = command.bindings.map((range, binding) => ({ binding, resource: view(range) }));
  if (command.params && uniform) {
    entries.push({
      binding: entries.length,
      resource: { buffer: uniform, offset: uniformOffset, size: command.params.byteLength },
    });
  }
  return device.createBindGroup({ layout: command.pipeline.layout, entries });
}

function view(range: StorageRange): GPUBufferBinding {
  return { buffer: range.storage.buffer as GpuBuffer, offset: range.offset, size: range.size };
}

/** Writes commands into one encoder, keeping a compute pass open across dispatches. */
export class CommandWriter {
  private readonly encoder: GPUCommandEncoder;
  private pass: GPUComputePassEncoder | undefined;

  constructor(device: GpuDevice) {
    this.encoder = device.createCommandEncoder();
  }

  write(command: Command, bindGroup: GpuBindGroup | undefined): void {
    if (command.kind === 'dispatch') {
      this.pass ??= this.encoder.beginComputePass();
      this.pass.setPipeline(command.pipeline.pipeline);
      this.pass.setBindGroup(0, bindGroup as GpuBindGroup);
      this.pass.dispatchWorkgroups(...command.groups);
      return;
    }
    this.endPass();
    const target = command.target.storage.buffer as GpuBuffer;
    if (command.kind === 'clear') {
      this.encoder.clearBuffer(target, command.target.offset, command.target.size);
      return;
    }
    const source = command.source.storage.buffer as GpuBuffer;
    this.encoder.copyBufferToBuffer(source, command.source.offset, target, command.target.offset, command.target.size);
  }

  /** Writes a command, a dispatch in a pass of its own with timestamps around it. */
  writeTimed(command: Command, bindGroup: GpuBindGroup | undefined, timestampWrites: TimestampWrites): void {
    this.endPass();
    if (command.kind === 'dispatch') this.pass = this.encoder.beginComputePass({ timestampWrites });
    this.write(command, bindGroup);
    this.endPass();
  }

  /** Copies out to a buffer that is no storage (a staging buffer for reading). */
  copyOut(source: StorageRange, target: GpuBuffer): void {
    this.endPass();
    this.encoder.copyBufferToBuffer(source.storage.buffer as GpuBuffer, source.offset, target, 0, source.size);
  }

  finish(): GpuCommandBuffer {
    this.endPass();
    return this.encoder.finish();
  }

  private endPass(): void {
    this.pass?.end();
    this.pass = undefined;
  }
}
