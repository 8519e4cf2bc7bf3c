import { ZebraError } from '../errors.js';
import { Device, type DeviceInfo, type DeviceOptions, type MatrixShape } from './device.js';

const CHOICES = ['auto', 'hardware', 'software', 'swiftshader'] as const;

/** Which adapter to open. */
export type AdapterChoice = (typeof CHOICES)[number];

/** Options of {@link openDevice}. */
export interface OpenDeviceOptions extends DeviceOptions {
  /**
   * `auto` (default): a hardware GPU, else the system's software Vulkan driver, else SwiftShader from the optional
   * package `@sparticuz/chromium` (Linux x64). The others ask for one kind and fail without it.
   */
  readonly adapter?: AdapterChoice;
  /** Clamp every access of a kernel to its buffer. Default true; false is faster on GPUs and for trusted kernels only. */
  readonly robust?: boolean;
}

const WAYS_OUT =
  'Three ways out: install a GPU driver with Vulkan (Linux), Metal (macOS) or Direct3D 12 (Windows); install a software driver (Debian: mesa-vulkan-drivers 25 or newer); or, on Linux x64, `npm install @sparticuz/chromium@147.0.0`, whose SwiftShader is used when nothing better is there.';

/**
 * Opens the best WebGPU device there is. In a browser it comes from `navigator.gpu`, in Node from the package `webgpu` (Dawn).
 *
 * @throws ZebraError `argument` for an `adapter` that is none of the choices or a `bindingLimit` below 256; `device`
 *   when there is no adapter (the message names the ways out) or it refuses a device
 */
export async function openDevice(options: OpenDeviceOptions = {}): Promise<Device> {
  if (options.adapter !== undefined && !CHOICES.includes(options.adapter)) {
    throw new ZebraError(
      'argument',
      `openDevice: adapter must be one of ${CHOICES.join(', ')}, got ${options.adapter}`,
    );
  }
  const { bindingLimit = Infinity } = options;
  if (!(bindingLimit >= 256)) {
    throw new ZebraError('argument', `openDevice: bindingLimit must be at least 256 bytes, got ${bindingLimit}`);
  }
  const adapter = await findAdapter(options);
  if (!adapter)
    throw new ZebraError(
      'device',
      `openDevice: no ${describeChoice(options.adapter)} WebGPU adapter was found. ${WAYS_OUT}`,
    );
  const wanted = ['shader-f16', 'subgroups', 'timestamp-query', SUBGROUP_MATRIX] as GPUFeatureName[];
  const requiredFeatures = wanted.filter((feature) => adapter.features.has(feature));
  const requiredLimits: Record<string, number> = {};
  for (const name of RAISED_LIMITS) {
    const limit = adapter.limits[name];
    if (typeof limit === 'number') requiredLimits[name] = limit;
  }
  const gpu = await adapter.requestDevice({ requiredFeatures, requiredLimits }).catch((error: Error) => {
    throw new ZebraError('device', `openDevice: the adapter refused a device: ${error.message}`, { cause: error });
  });
  return new Device(gpu, describe(adapter, gpu), options);
}

const SUBGROUP_MATRIX = 'chromium-experimental-subgroup-matrix' as GPUFeatureName;

const RAISED_LIMITS = [
  'maxBufferSize',
  'maxStorageBufferBindingSize',
  'maxComputeInvocationsPerWorkgroup',
  'maxComputeWorkgroupSizeX',
  'maxComputeWorkgroupSizeY',
  'maxComputeWorkgroupStorageSize',
  'maxStorageBuffersPerShaderStage',
] as const satisfies readonly (keyof GPUSupportedLimits)[];

function describeChoice(choice: AdapterChoice = 'auto'): string {
  return choice === 'auto' ? '' : choice;
}

function isSoftware(info: GPUAdapterInfo): boolean {
  return (
    info.isFallbackAdapter === true ||
    /swiftshader|llvmpipe|lavapipe/i.test(`${info.architecture} ${info.description} ${info.device}`)
  );
}

/** The experimental part of an adapter's description, which the types of WebGPU do not have yet. */
interface MatrixConfiguration {
  readonly componentType: string;
  readonly resultComponentType: string;
  readonly M: number;
  readonly N: number;
  readonly K: number;
}

function matrixShapes(info: GPUAdapterInfo): MatrixShape[] {
  const { subgroupMatrixConfigs } = info as { subgroupMatrixConfigs?: Iterable<MatrixConfiguration> };
  return [...(subgroupMatrixConfigs ?? [])]
    .filter(({ componentType, resultComponentType }) => componentType === 'f16' && resultComponentType === 'f32')
    .map(({ M, N, K }) => ({ m: M, n: N, k: K }));
}

function describe(adapter: GPUAdapter, gpu: GPUDevice): DeviceInfo {
  const info = adapter.info;
  return {
    vendor: info.vendor,
    architecture: info.architecture,
    description: info.description || info.device,
    software: isSoftware(info),
    float16: gpu.features.has('shader-f16'),
    subgroups: gpu.features.has('subgroups'),
    subgroupSize: info.subgroupMinSize === info.subgroupMaxSize ? (info.subgroupMinSize ?? 0) : 0,
    subgroupMatrix: gpu.features.has(SUBGROUP_MATRIX) ? matrixShapes(info) : [],
    matrixEmulated: false,
    workgroupMemory: gpu.limits.maxComputeWorkgroupStorageSize,
    timestamps: gpu.features.has('timestamp-query'),
  };
}

async function findAdapter(options: OpenDeviceOptions): Promise<GPUAdapter | undefined> {
  const choice = options.adapter ?? 'auto';
  const inBrowser = typeof process === 'undefined' || !process.versions?.node;
  if (inBrowser) {
    const adapter = await navigator.gpu?.requestAdapter({ powerPreference: 'high-performance' });
    return adapter ?? undefined;
  }
  const { nodeAdapter } = await import('./node-adapter.js');
  return nodeAdapter(choice, options.robust ?? true, isSoftware);
}
