import { describe, expect, it } from 'vitest';
import { create, globals } from 'webgpu';
import { assembleSource, type Kernel, type KernelVariant } from '../../device/kernel.js';
import { decodeLanes } from './decode-lanes.wgsl.js';
import { decodeMatrix } from './decode-matrix.wgsl.js';

const MATRIX = { matrixM: 16, matrixN: 16, matrixK: 16, lanes: 32 };

/** WGSL of a variant for a GPU with subgroups of 32 and real matrix units. */
function sourceOf(kernel: Kernel, constants: Record<string, number>, dtype: 'uint32' | 'float32', masked: boolean) {
  const masks = masked ? ['segments', 'key_segments', 'length'] : ['length'];
  const values = kernel === decodeMatrix ? [] : ['v'];
  const names = ['q', 'k', ...values, ...masks, 'partial', 'totals'];
  const variant: Omit<KernelVariant, 'workgroup'> = {
    dtype: (name) => (['q', 'k', 'v'].includes(name) ? dtype : masks.includes(name) ? 'int32' : 'float32'),
    has: (name) => names.includes(name),
    constants,
    software: false,
    subgroups: true,
    matrixEmulated: false,
  };
  const workgroup = typeof kernel.workgroup === 'function' ? kernel.workgroup(variant) : (kernel.workgroup as number);
  return assembleSource(kernel, { ...variant, workgroup }, names);
}

describe('the WGSL of decoding attention on GPUs', () => {
  it('is valid with real matrix units and subgroups of 32', async () => {
    // Dawn's null backend runs nothing, but checks WGSL with every feature there is.
    Object.assign(globalThis, globals);
    const instance = create(['backend=null', 'enable-dawn-features=allow_unsafe_apis']);
    const adapter = await instance.requestAdapter();
    const device = await adapter!.requestDevice({ requiredFeatures: [...adapter!.features] as GPUFeatureName[] });
    device.pushErrorScope('validation');
    const codes = [
      ...[
        { tileHeads: 32, tileKeys: 64, keySize: 160, valueSize: 128 },
        { tileHeads: 32, tileKeys: 32, keySize: 160, valueSize: 128 },
        { tileHeads: 16, tileKeys: 64, keySize: 576, valueSize: 512 },
        { tileHeads: 32, tileKeys: 32, keySize: 224, valueSize: 160 },
      ].flatMap((sizes) => [false, true].map((m) => sourceOf(decodeMatrix, { ...MATRIX, ...sizes }, 'uint32', m))),
      ...(['uint32', 'float32'] as const).flatMap((dtype) =>
        [64, 128].map((size) => sourceOf(decodeLanes, { size, tileHeads: 4, ahead: 4 }, dtype, true)),
      ),
    ];
    for (const code of codes) {
      const { messages } = await device.createShaderModule({ code }).getCompilationInfo();
      expect(messages.map(({ message }) => message)).toEqual([]);
    }
    expect(await device.popErrorScope()).toBeNull();
    device.destroy();
    expect(instance).toBeDefined();
  });
});
