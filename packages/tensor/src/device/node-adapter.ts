import { dawn, nodeOs } from '../node-modules.js';
import type { GpuAdapter, GpuAdapterInfo } from './gpu-types.js';
import type { AdapterChoice } from './open.js';
import { installSwiftShader } from './swiftshader.js';

/** Dawn frees its instance, and crashes the process, when the object that create() returned is collected: pin them all. */
const PINNED = Symbol.for('zebra.dawn-instances');

type Pinned = Map<string, GPU>;

function pinned(): Pinned {
  const registry = globalThis as unknown as Record<symbol, Pinned | undefined>;
  registry[PINNED] ??= new Map();
  return registry[PINNED];
}

async function instance(key: string, robust: boolean): Promise<GPU> {
  const known = pinned().get(key);
  if (known) return known;
  const { create, globals } = await dawn();
  Object.assign(globalThis, globals);
  const gpu = create([
    `enable-dawn-features=allow_unsafe_apis,vulkan_enable_f16_on_nvidia${robust ? '' : ',disable_robustness'}`,
    'disable-dawn-features=timestamp_quantization',
  ]);
  pinned().set(key, gpu);
  return gpu;
}

/** Finds an adapter in Node, in the order that `openDevice` promises. */
export async function nodeAdapter(
  choice: AdapterChoice,
  robust: boolean,
  isSoftware: (info: GpuAdapterInfo) => boolean,
): Promise<GpuAdapter | undefined> {
  if (choice !== 'swiftshader' && (await hasSystemDriver())) {
    const gpu = await instance(`system,${robust}`, robust);
    const adapter = await gpu.requestAdapter({ powerPreference: 'high-performance' });
    if (adapter && fits(choice, isSoftware(adapter.info))) return adapter;
    // A GPU was found where a software driver is asked for, or nothing at all.
    const fallback = choice === 'hardware' ? undefined : await gpu.requestAdapter({ forceFallbackAdapter: true });
    if (fallback && fits(choice, isSoftware(fallback.info))) return fallback;
  }
  if (choice === 'hardware' || !(await installSwiftShader())) return undefined;
  const gpu = await instance(`swiftshader,${robust}`, robust);
  return (await gpu.requestAdapter()) ?? undefined;
}

/**
 * Whether it is worth asking Dawn for the system's adapters. On Linux they come from the Vulkan loader; without one Dawn
 * would print a warning of its own to the terminal and find nothing.
 */
async function hasSystemDriver(): Promise<boolean> {
  if (process.platform !== 'linux') return true;
  const { constants } = await nodeOs();
  try {
    // RTLD_NODELETE: Dawn needs it right after.
    process.dlopen({ exports: {} }, 'libvulkan.so.1', constants.dlopen.RTLD_NOW | 0x1000);
    return true;
  } catch (error) {
    // A library that is no Node addon is mapped all the same, and Node says so.
    return /self-register/i.test((error as Error).message);
  }
}

function fits(choice: AdapterChoice, software: boolean): boolean {
  return choice === 'auto' || (choice === 'software') === software;
}
