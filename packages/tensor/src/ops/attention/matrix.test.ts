import { describe, expect, it } from 'vitest';
import { create, globals } from 'webgpu';
import type { DType } from '../../core/dtype.js';
import type { DeviceInfo } from '../../device/device.js';
import { assembleSource, type Kernel, type KernelVariant } from '../../device/kernel.js';
import { testDevice } from '../../testing/index.js';
import type { MaskKind } from './mask.wgsl.js';
import { chooseMatrix, type MatrixPass, matrixConstants } from './matrix-choice.js';
import { forwardMemory, matrixForward } from './matrix-forward.wgsl.js';
import { gradientMemory, matrixKeyGradient, matrixQueryGradient } from './matrix-gradient.wgsl.js';
import { matrixStatistics } from './matrix-statistics.wgsl.js';
import type { MatrixConstants, MatrixTile } from './matrix-tile.wgsl.js';

// No software adapter has matrix units. What can be held here: which calls the kernels are chosen for, and that every
// variant is valid WGSL. What they compute is held by attention.emulated.test.ts.

const KERNELS = { forward: matrixForward, query: matrixQueryGradient, key: matrixKeyGradient };
const PASSES = Object.keys(KERNELS) as MatrixPass[];
const MASKS: MaskKind[] = ['none', 'length', 'segments'];
const PACKED = ['q', 'k', 'v', 'y', 'g', 'dq', 'dk', 'dv'];

const { info } = await testDevice('hardware');

function gpu(changes: Partial<DeviceInfo> = {}): DeviceInfo {
  const subgroupMatrix = [{ m: 16, n: 16, k: 16 }];
  const has = { float16: true, subgroups: true, subgroupSize: 32, subgroupMatrix, workgroupMemory: 49152 };
  return { ...info, software: false, ...has, ...changes };
}

const heads = (keySize: number, valueSize = keySize, valueWidth = valueSize) => ({ keySize, valueSize, valueWidth });
const halves = (count: number): DType[] => Array.from({ length: count }, () => 'float16');

function sourceOf(kernel: Kernel, constants: object, bound: readonly string[]): string {
  const variant: Omit<KernelVariant, 'workgroup'> = {
    dtype: (name) => (PACKED.includes(name) ? 'uint32' : name === 'mask' ? 'int32' : 'float32'),
    has: (name) => bound.includes(name),
    constants: { ...constants } as KernelVariant['constants'],
    software: false,
    subgroups: true,
    matrixEmulated: false,
  };
  const workgroup = typeof kernel.workgroup === 'function' ? kernel.workgroup(variant) : (kernel.workgroup as number);
  return assembleSource(kernel, { ...variant, workgroup }, bound);
}

/** Bytes of the workgroup variables of a kernel. */
function workgroupBytes(code: string): number {
  const sizes: Record<string, number> = { u32: 4, f32: 4, 'atomic<u32>': 4, 'vec4<u32>': 16 };
  let bytes = 0;
  for (const [, array, element, count, single] of code.matchAll(
    /var<workgroup> \w+: (?:(array)<([\w<>]+), (\d+)>|([\w<>]+));/g,
  )) {
    bytes += array ? sizes[element!]! * Number(count) : sizes[single!]!;
  }
  expect(bytes).toBeGreaterThan(0);
  return bytes;
}

describe('the choice of attention on matrix units', () => {
  it('is made for float16 heads of up to 128 elements, on little workgroup memory too', () => {
    for (const workgroupMemory of [49152, 32768, 16384]) {
      for (const sizes of [heads(32), heads(48), heads(64), heads(80), heads(96), heads(128), heads(64, 32)]) {
        for (const pass of PASSES) {
          const expected = workgroupMemory > 16384 || Math.max(sizes.keySize, sizes.valueSize) <= 64;
          if (expected)
            expect(chooseMatrix(gpu({ workgroupMemory }), pass, sizes, 'segments', halves(4))).toBeDefined();
        }
      }
    }
  });

  it('is not made elsewhere', () => {
    const lacks: Partial<DeviceInfo>[] = [
      { software: true },
      { float16: false },
      { subgroupSize: 16 },
      { subgroupMatrix: [] },
      { subgroupMatrix: [{ m: 16, n: 8, k: 16 }] },
      { workgroupMemory: 4096 },
    ];
    for (const changes of lacks) {
      expect(chooseMatrix(gpu(changes), 'forward', heads(64), 'none', halves(3))).toBeUndefined();
    }
    for (const sizes of [heads(72), heads(144), heads(64, 60), heads(64, 64, 68)]) {
      expect(chooseMatrix(gpu(), 'forward', sizes, 'none', halves(3))).toBeUndefined();
    }
    expect(chooseMatrix(gpu(), 'forward', heads(64), 'none', ['float16', 'float16', 'float32'])).toBeUndefined();
  });
});

describe('the WGSL of attention on matrix units', () => {
  it('is valid in every variant, and within the workgroup memory that it says', async () => {
    // Dawn's null backend runs nothing, but checks WGSL with every feature there is.
    Object.assign(globalThis, globals);
    const instance = create(['backend=null', 'enable-dawn-features=allow_unsafe_apis']);
    const adapter = await instance.requestAdapter();
    const device = await adapter!.requestDevice({ requiredFeatures: [...adapter!.features] as GPUFeatureName[] });
    device.pushErrorScope('validation');
    const seen = new Set<string>();
    const check = async (kernel: Kernel, constants: object, bound: readonly string[], memory = 49152) => {
      const code = sourceOf(kernel, constants, bound);
      if (seen.has(code)) return;
      seen.add(code);
      expect(workgroupBytes(code)).toBeLessThanOrEqual(memory);
      expect(memory).toBeLessThanOrEqual(49152);
      const { messages } = await device.createShaderModule({ code }).getCompilationInfo();
      expect(messages.map(({ message, lineNum }) => `${message}: ${code.split('\n')[lineNum - 1]}`)).toEqual([]);
    };
    const variants = (pass: MatrixPass, sizes: ReturnType<typeof heads>, mask: MaskKind): MatrixConstants[] => {
      const chosen = [49152, 32768, 16384].map((workgroupMemory) =>
        chooseMatrix(gpu({ workgroupMemory }), pass, sizes, mask, halves(4)),
      );
      const others: MatrixTile[] = [
        { rows: 64, step: 64, subgroups: 4, scoreRows: 16, buffers: 1, prefetch: false },
        { rows: 128, step: 32, subgroups: 8, scoreRows: 32, buffers: 2, prefetch: false },
      ];
      return [...chosen, ...others.map((tile) => matrixConstants(gpu(), pass, sizes, mask, tile))].filter(
        (c) => c !== undefined,
      );
    };
    for (const mask of MASKS) {
      const masked = mask === 'none' ? [] : ['mask'];
      for (const sizes of [heads(64), heads(128), heads(96, 64), heads(48, 32, 40)]) {
        for (const c of variants('forward', sizes, mask)) {
          await check(matrixForward, c, ['q', 'k', 'v', ...masked, 'y', 'lse'], forwardMemory(c));
        }
        for (const c of variants('query', sizes, mask)) {
          await check(
            matrixQueryGradient,
            c,
            ['q', 'k', 'v', 'g', 'stats', ...masked, 'dq'],
            gradientMemory('query', c),
          );
        }
        for (const c of variants('key', sizes, mask)) {
          for (const wanted of [['dk', 'dv'], ['dk'], ['dv']]) {
            await check(
              matrixKeyGradient,
              c,
              ['q', 'k', 'v', 'g', 'stats', ...masked, ...wanted],
              gradientMemory('key', c),
            );
          }
        }
      }
    }
    await check(matrixStatistics, { valueSize: 64 }, ['y', 'g', 'lse', 'stats']);
    expect(await device.popErrorScope()).toBeNull();
    expect(seen.size).toBeGreaterThan(60);
    device.destroy();
    expect(instance).toBeDefined();
  });
});
