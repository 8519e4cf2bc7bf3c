import { describe, expect, it } from 'vitest';
import { create, globals } from 'webgpu';
import type { DType } from '../../core/dtype.js';
import { assembleSource, type KernelVariant } from '../../device/kernel.js';
import { type ProjectConstants, projectKernel } from './project.wgsl.js';

const GPU = { lanes: 32, subgroups: true, inFlight: 8 };

/** WGSL of a variant for a GPU with subgroups of 32, which no software adapter compiles in reasonable time. */
function sourceOf(constants: ProjectConstants, names: readonly string[], weights: DType, output: DType): string {
  const dtypes: Record<string, DType> = { x: 'float32', norm: 'float32', residual: 'float32', y: output };
  const variant: Omit<KernelVariant, 'workgroup'> = {
    dtype: (name) => dtypes[name] ?? weights,
    has: (name) => names.includes(name),
    constants: { ...constants },
    software: false,
    subgroups: true,
    matrixEmulated: false,
  };
  return assembleSource(projectKernel, { ...variant, workgroup: projectKernel.workgroup }, names);
}

describe('the WGSL of project on GPUs', () => {
  it('is valid in every variant', async () => {
    // Dawn's null backend runs nothing, but checks WGSL with every feature there is.
    Object.assign(globalThis, globals);
    const instance = create(['backend=null', 'enable-dawn-features=allow_unsafe_apis']);
    const adapter = await instance.requestAdapter();
    const device = await adapter!.requestDevice({ requiredFeatures: [...adapter!.features] as GPUFeatureName[] });
    device.pushErrorScope('validation');
    for (const rows of [1, 2, 4, 8]) {
      for (const columns of [1, 2, 4]) {
        for (const names of [
          ['x', 'w0', 'y'],
          ['x', 'w0', 'w1', 'w2', 'norm', 'y'],
          ['x', 'w0', 'w1', 'norm', 'residual', 'y'],
        ]) {
          for (const gated of names.length === 6 && !names.includes('w2') ? [false, true] : [false]) {
            for (const weights of ['uint32', 'float32'] as const) {
              const code = sourceOf({ ...GPU, rows, columns, gated }, names, weights, 'float16');
              const { messages } = await device.createShaderModule({ code }).getCompilationInfo();
              expect(messages.map(({ message }) => message)).toEqual([]);
            }
          }
        }
      }
    }
    expect(await device.popErrorScope()).toBeNull();
    device.destroy();
    expect(instance).toBeDefined();
  });
});
