import type { Command, DispatchCommand } from './command.js';
import type { StorageRange } from './storage.js';

/** Bytes of one parameter block: the strictest `minUniformBufferOffsetAlignment` that WebGPU allows. */
export const PARAM_STRIDE = 256;

/** The WebGPU entries of a dispatch's bind group, with its parameters at `uniform`. */
export function bindGroupFor(
  device: GPUDevice,
  command: DispatchCommand,
  uniform: GPUBuffer | undefined,
  uniformOffset: number,
): GPUBindGroup {
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
  return { buffer: range.storage.buffer as GPUBuffer, offset: range.offset, size: range.size };
}

/** Writes commands into one encoder, keeping a compute pass open across dispatches. */
export class CommandWriter {
  private readonly encoder: GPUCommandEncoder;
  private pass: GPUComputePassEncoder | undefined;

  constructor(device: GPUDevice) {
    this.encoder = device.createCommandEncoder();
  }

  write(command: Command, bindGroup: GPUBindGroup | undefined): void {
    if (command.kind === 'dispatch') {
      this.pass ??= this.encoder.beginComputePass();
      this.pass.setPipeline(command.pipeline.pipeline);
      this.pass.setBindGroup(0, bindGroup as GPUBindGroup);
      this.pass.dispatchWorkgroups(...command.groups);
      return;
    }
    this.endPass();
    const target = command.target.storage.buffer as GPUBuffer;
    if (command.kind === 'clear') {
      this.encoder.clearBuffer(target, command.target.offset, command.target.size);
      return;
    }
    const source = command.source.storage.buffer as GPUBuffer;
    this.encoder.copyBufferToBuffer(source, command.source.offset, target, command.target.offset, command.target.size);
  }

  /** Writes a command, a dispatch in a pass of its own with timestamps around it. */
  writeTimed(
    command: Command,
    bindGroup: GPUBindGroup | undefined,
    timestampWrites: GPUComputePassTimestampWrites,
  ): void {
    this.endPass();
    if (command.kind === 'dispatch') this.pass = this.encoder.beginComputePass({ timestampWrites });
    this.write(command, bindGroup);
    this.endPass();
  }

  /** Copies out to a buffer that is no storage (a staging buffer for reading). */
  copyOut(source: StorageRange, target: GPUBuffer): void {
    this.endPass();
    this.encoder.copyBufferToBuffer(source.storage.buffer as GPUBuffer, source.offset, target, 0, source.size);
  }

  finish(): GPUCommandBuffer {
    this.endPass();
    return this.encoder.finish();
  }

  private endPass(): void {
    this.pass?.end();
    this.pass = undefined;
  }
}
