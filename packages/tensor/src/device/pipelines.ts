import type { DType } from '../core/dtype.js';
import { WGSL_TYPE } from '../core/dtype.js';
import { ZebraError } from '../errors.js';
import type { Pipeline } from './command.js';
import type { BoundRange, DeviceInfo, DispatchOptions } from './device.js';
import type { GpuDevice } from './gpu-types.js';
import { assembleSource, type Kernel, type KernelVariant } from './kernel.js';
import { cutByItems, pieceBytes, pieceCount } from './pieces.js';

type Constants = KernelVariant['constants'];

/** Compiles the variants of kernels that a device is asked for, each once. */
export class PipelineCache {
  /** Variants compiled so far. */
  count = 0;
  private readonly gpu: GpuDevice;
  private readonly info: DeviceInfo;
  private readonly bindingLimit: number;
  /** By the kernel itself: two authors may give two kernels one name. */
  private readonly pipelines = new WeakMap<Kernel, Map<string, Pipeline>>();

  /** @param bindingLimit bytes that are bound at once, at most */
  constructor(gpu: GpuDevice, info: DeviceInfo, bindingLimit: number) {
    this.gpu = gpu;
    this.info = info;
    this.bindingLimit = bindingLimit;
  }

  /** The variant of a kernel for these ranges, by the names in `present`. Larger ones are read in pieces. */
  get(kernel: Kernel, present: readonly string[], ranges: readonly BoundRange[], constants: Constants): Pipeline {
    const pieces = ranges.map(({ size }) => pieceCount(size, this.bindingLimit));
    const key = `${present.join()}|${ranges.map(({ dtype }) => dtype).join()}|${pieces.join()}|${JSON.stringify(constants)}`;
    const variants = this.variantsOf(kernel);
    const known = variants.get(key);
    if (known) return known;
    this.check(kernel, present, ranges, pieces);
    const variant = this.variantFor(kernel, present, ranges, constants);
    const cuts = {
      counts: new Map(present.map((name, k) => [name, pieces[k]!])),
      bytes: pieceBytes(this.bindingLimit),
    };
    const access = present.flatMap((name, k) => Array<'read' | 'write'>(pieces[k]!).fill(kernel.bindings[name]!));
    const pipeline = this.compile(kernel, assembleSource(kernel, variant, present, cuts), access);
    variants.set(key, pipeline);
    this.count++;
    return pipeline;
  }

  /** See {@link cutByItems}. */
  cutByItems(kernel: Kernel, options: DispatchOptions, present: readonly string[]): readonly DispatchOptions[] {
    if (!kernel.itemwise) return [options];
    const ranges = present.map((name) => options.bindings[name] as BoundRange);
    const variant = this.variantFor(kernel, present, ranges, options.constants ?? {});
    return cutByItems(kernel, variant, options, this.bindingLimit);
  }

  /** Invocations of a workgroup of a kernel. */
  workgroupOf(kernel: Kernel, constants: Constants = {}): number {
    if (typeof kernel.workgroup === 'number')
      return Math.min(kernel.workgroup, this.gpu.limits.maxComputeInvocationsPerWorkgroup);
    if (kernel.workgroup) return kernel.workgroup(this.baseVariant(constants));
    return 64;
  }

  private variantFor(
    kernel: Kernel,
    present: readonly string[],
    ranges: readonly BoundRange[],
    constants: Constants,
  ): KernelVariant {
    const dtypeOf = new Map(present.map((name, k) => [name, ranges[k]!.dtype]));
    return {
      ...this.baseVariant(constants),
      dtype: (name) => dtypeOf.get(name) as DType,
      has: (name) => dtypeOf.has(name),
      workgroup: this.workgroupOf(kernel, constants),
    };
  }

  private baseVariant(constants: Constants): Omit<KernelVariant, 'workgroup'> {
    const none = (): never => {
      throw new TypeError('a workgroup size cannot depend on bindings');
    };
    const { software, subgroups, matrixEmulated } = this.info;
    return { dtype: none, has: none, constants, software, subgroups, matrixEmulated };
  }

  /** What a pipeline cannot be made for. */
  private check(
    kernel: Kernel,
    present: readonly string[],
    ranges: readonly BoundRange[],
    pieces: readonly number[],
  ): void {
    present.forEach((name, k) => {
      const { dtype } = ranges[k]!;
      if (dtype === 'float16' && !this.info.float16) {
        throw new ZebraError(
          'dtype',
          `kernel ${kernel.name}: ${name} is float16, which this adapter can only store. cast() it to float32.`,
        );
      }
      if (WGSL_TYPE[dtype] === undefined)
        throw new ZebraError('dtype', `kernel ${kernel.name}: ${name} has dtype ${dtype}`);
    });
    const bound = pieces.reduce((sum, count) => sum + count, 0);
    const most = this.gpu.limits.maxStorageBuffersPerShaderStage;
    if (bound > most && bound > pieces.length) {
      const largest = Math.max(...ranges.map(({ size }) => size));
      throw new ZebraError(
        'memory',
        `kernel ${kernel.name}: a tensor of ${largest} bytes is bound in pieces of ${this.bindingLimit}, the most that this adapter binds at once, and with the others these are ${bound} bindings; it has ${most}. Use a narrower dtype, smaller chunks or another adapter.`,
      );
    }
  }

  private variantsOf(kernel: Kernel): Map<string, Pipeline> {
    let variants = this.pipelines.get(kernel);
    if (!variants) {
      variants = new Map();
      this.pipelines.set(kernel, variants);
    }
    return variants;
  }

  private compile(kernel: Kernel, code: string, access: readonly ('read' | 'write')[]): Pipeline {
    const entries: GPUBindGroupLayoutEntry[] = access.map((kind, binding) => ({
      binding,
      visibility: 0x4 /* COMPUTE */,
      buffer: { type: kind === 'write' ? 'storage' : 'read-only-storage' },
    }));
    if (kernel.params) entries.push({ binding: entries.length, visibility: 0x4, buffer: { type: 'uniform' } });
    const layout = this.gpu.createBindGroupLayout({ entries });
    const module = this.gpu.createShaderModule({ label: kernel.name, code });
    const pipeline = this.gpu.createComputePipeline({
      label: kernel.name,
      layout: this.gpu.createPipelineLayout({ bindGroupLayouts: [layout] }),
      compute: { module, entryPoint: 'main' },
    });
    return { name: kernel.name, pipeline, layout };
  }
}
