/**
 * WebGPU's own types, for declarations that users compile. Since TypeScript 6 they come with the DOM library, before
 * that and without it from `@webgpu/types`, and the two cannot be had together; a project that only calls this package
 * needs neither. So they are taken from where the project has them, and are unknown where it has none.
 */
type Global<Name extends string> =
  typeof globalThis extends Readonly<Record<Name, { prototype: infer T }>> ? T : unknown;

export type GpuAdapter = Global<'GPUAdapter'>;
export type GpuAdapterInfo = Global<'GPUAdapterInfo'>;
export type GpuBindGroup = Global<'GPUBindGroup'>;
export type GpuBindGroupLayout = Global<'GPUBindGroupLayout'>;
export type GpuBuffer = Global<'GPUBuffer'>;
export type GpuCommandBuffer = Global<'GPUCommandBuffer'>;
export type GpuComputePipeline = Global<'GPUComputePipeline'>;
export type GpuDevice = Global<'GPUDevice'>;
export type GpuQuerySet = Global<'GPUQuerySet'>;
export type GpuSupportedLimits = Global<'GPUSupportedLimits'>;
