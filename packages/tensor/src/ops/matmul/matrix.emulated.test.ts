import { describe, expect, it } from 'vitest';
import { create, globals } from 'webgpu';
import { tensor } from '../../core/create.js';
import type { DType } from '../../core/dtype.js';
import { decodeBytes, encodeBytes } from '../../core/encoding.js';
import type { DeviceInfo } from '../../device/device.js';
import { assembleSource, type KernelVariant } from '../../device/kernel.js';
import { normalValues, relativeError, testDevice, uniformSource } from '../../testing/index.js';
import { chooseChunk, chooseGated, chooseKernel, isHeavy, type KernelChoice, type MatmulSituation } from './choose.js';
import { matmul } from './matmul.js';
import { type MatrixConstants, matrixMatmul, matrixMemory, matrixSubgroups } from './matrix.wgsl.js';
import { LARGE_PLAN } from './plans.js';
import { matmulReference } from './reference.js';

// No software adapter has matrix units. What can be held here: which products the kernel is chosen for, that every
// variant is valid WGSL, that no load leaves workgroup memory, and, with emulated units, what it computes. Results of
// real ones are in docs/results.

const present = await testDevice('hardware');
const SQUARE = { m: 16, n: 16, k: 16 };

function gpu(changes: Partial<DeviceInfo> = {}): DeviceInfo {
  const has = { float16: true, subgroups: true, subgroupSize: 32, subgroupMatrix: [SQUARE], workgroupMemory: 49152 };
  return { ...present.info, software: false, ...has, ...changes };
}

function product(changes: Partial<MatmulSituation> = {}): MatmulSituation {
  const half = { dtype: 'float16' as DType, aligned: 8 };
  const operands = { a: { ...half, alongK: true }, b: { ...half, alongK: true }, c: { ...half, alongN: true } };
  return { m: 2048, n: 2048, k: 2048, batch: 1, ...operands, ...changes };
}

const usesMatrices = (choice: KernelChoice): boolean => choice.kernel === matrixMatmul;
const constantsOf = (choice: KernelChoice): MatrixConstants => choice.constants as unknown as MatrixConstants;

/** Every choice over adapters' sizes, transposes and alignments. */
function choices(subgroupSize = 32): KernelChoice[] {
  const shapes = [SQUARE, { m: 16, n: 8, k: 16 }, { m: 16, n: 8, k: 8 }, { m: 8, n: 8, k: 8 }];
  const bool = [false, true];
  return shapes.flatMap((shape) =>
    [49152, 32768, 16384].flatMap((workgroupMemory) =>
      (
        [
          [2048, 128],
          [2048, 2048],
          ...[12, 20, 64].flatMap((few) => [2048, 8192, 32768].map((n) => [few, n] as const)),
        ] as const
      ).flatMap(([m, n]) =>
        bool.flatMap((aAlongK) =>
          bool.flatMap((bAlongK) =>
            [1, 8].map((aligned) => {
              const half = { dtype: 'float16' as DType, aligned };
              return chooseKernel(
                gpu({ subgroupMatrix: [shape], workgroupMemory, subgroupSize }),
                product({
                  m,
                  n,
                  a: { ...half, alongK: aAlongK },
                  b: { ...half, alongK: bAlongK },
                  c: { ...half, alongN: true },
                }),
              );
            }),
          ),
        ),
      ),
    ),
  );
}

type Added = readonly ('bias' | 'residual' | 'b2')[];

/** The plans that tuning tries beside those of the table, in all transposes. */
function tunedChoices(): KernelChoice[] {
  const bool = [false, true];
  return [
    { buffers: 2 as const },
    { ahead: false, step: 64 },
    { rows: 256, group: 6 },
    { columns: 256 },
    { subgroupColumns: 32, step: 64 },
    { subgroupRows: 32, buffers: 2 as const },
    { rows: 256, columns: 64, subgroupColumns: 32 },
  ].flatMap((changes) =>
    bool.flatMap((aAlongK) =>
      bool.map((bAlongK) => {
        const half = { dtype: 'float16' as DType, aligned: 8 };
        const layout = { a: { ...half, alongK: aAlongK }, b: { ...half, alongK: bAlongK } };
        const plan = { ...LARGE_PLAN, ...changes };
        const choice = chooseKernel(gpu(), product(layout), { plan, pieces: 1 });
        expect(constantsOf(choice)).toMatchObject(plan);
        return choice;
      }),
    ),
  );
}

function sourceOf(choice: KernelChoice, output: DType, accumulate: boolean, added: Added = []): string {
  const names = ['a', 'b', 'c', ...added];
  const variant: Omit<KernelVariant, 'workgroup'> = {
    dtype: (name) => choice.bound?.[name.slice(0, 1) as 'a']?.dtype ?? (name === 'c' ? output : 'float16'),
    has: (name) => names.includes(name),
    constants: { ...choice.constants, accumulate },
    software: false,
    subgroups: true,
    matrixEmulated: false,
  };
  const workgroup = (matrixMatmul.workgroup as (v: typeof variant) => number)(variant);
  return assembleSource(matrixMatmul, { ...variant, workgroup }, names);
}

describe('the choice of the matrix units', () => {
  it('is made for float16 operands of a GPU that has them, whatever the output', () => {
    expect(usesMatrices(chooseKernel(gpu(), product()))).toBe(true);
    const wide = product({ c: { dtype: 'float32', aligned: 1, alongN: true } });
    expect(usesMatrices(chooseKernel(gpu(), wide))).toBe(true);
  });

  it('is not made without units, a fixed subgroup, float16, or on software', () => {
    for (const lacks of [
      { subgroupMatrix: [] },
      { subgroupSize: 0 },
      { subgroupSize: 4 },
      { subgroupSize: 128 },
      { float16: false },
      { software: true },
      { subgroupMatrix: [{ m: 16, n: 16, k: 32 }] },
      { workgroupMemory: 1024 },
    ]) {
      expect(usesMatrices(chooseKernel(gpu(lacks), product()))).toBe(false);
    }
  });

  it('is not made for float32 operands, transposed outputs or narrow products', () => {
    const wide = { dtype: 'float32' as DType, aligned: 8, alongK: true };
    for (const other of [
      { a: wide },
      { b: wide },
      { c: { dtype: 'float16' as DType, aligned: 8, alongN: false } },
      { m: 31, a: { dtype: 'float16' as DType, aligned: 8, alongK: false } },
      { n: 31 },
      { k: 31 },
    ]) {
      expect(usesMatrices(chooseKernel(gpu(), product(other)))).toBe(false);
    }
  });

  it('prefers the largest matrix, and binds vectors only where lines and starts fit them', () => {
    const several = gpu({ subgroupMatrix: [{ m: 16, n: 8, k: 8 }, SQUARE, { m: 16, n: 8, k: 16 }] });
    expect(constantsOf(chooseKernel(several, product()))).toMatchObject({ matrixM: 16, matrixN: 16, matrixK: 16 });
    const odd = { dtype: 'float16' as DType, aligned: 4 };
    const choice = chooseKernel(gpu(), product({ a: { ...odd, alongK: true }, c: { ...odd, alongN: true } }));
    expect(constantsOf(choice)).toMatchObject({ aVectors: false, bVectors: true, cVectors: true });
    expect(choice.bound).toEqual({ b: { elements: 8, dtype: 'uint32' }, c: { elements: 4 } });
  });

  it('takes small tiles for outputs of few, and cuts long sums into pieces of whole steps', () => {
    expect(chooseKernel(gpu(), product({ m: 128, n: 128 })).tile).toEqual([64, 64]);
    const choice = chooseKernel(gpu(), product({ m: 1024, n: 512, k: 8100 }));
    expect(choice.tile).toEqual([128, 128]);
    const chunk = chooseChunk(8100, 32, choice);
    expect(chunk).toBeLessThan(8100);
    expect(chunk % constantsOf(choice).step).toBe(0);
  });

  it.each([
    // Measured on an H100.
    [2048, 2048, { columns: 32, step: 128, subgroupRows: 32, subgroupColumns: 16, buffers: 1 }, 1],
    [3072, 2048, { columns: 32, step: 128, subgroupRows: 32, subgroupColumns: 16, buffers: 1 }, 1],
    [5152, 2048, { columns: 64, step: 128, subgroupRows: 16, subgroupColumns: 64, buffers: 1 }, 1],
    [8192, 2048, { columns: 64, step: 128, subgroupRows: 16, subgroupColumns: 64, buffers: 1 }, 1],
    [2048, 8192, { columns: 64, step: 128, subgroupRows: 32, subgroupColumns: 32, buffers: 1 }, 4],
    [128256, 2048, { columns: 64, step: 64, subgroupRows: 32, subgroupColumns: 32, buffers: 1 }, 1],
    // Not measured: fewer than 64 tiles.
    [512, 2048, { columns: 32, step: 128, subgroupRows: 32, subgroupColumns: 16, buffers: 1 }, 4],
  ])('cuts %i columns and sums of %i for 64 rows as the table says', (n, k, plan, pieces) => {
    const choice = chooseKernel(gpu(), product({ m: 64, n, k }));
    expect(constantsOf(choice)).toMatchObject({ rows: 64, ...plan });
    expect(k / chooseChunk(k, Math.ceil(n / plan.columns), choice)).toBe(pieces);
  });
});

describe('the choice for few rows', () => {
  const choose = (m: number, n: number, k: number, changes: Partial<DeviceInfo> = {}) =>
    chooseKernel(gpu(changes), product({ m, n, k }));

  it('is the matrix units from 9 rows on, and from 5 where b is large', () => {
    expect(usesMatrices(choose(8, 4096, 4096))).toBe(false);
    expect(usesMatrices(choose(9, 4096, 4096))).toBe(true);
    expect(usesMatrices(choose(4, 14336, 4096))).toBe(false);
    expect(usesMatrices(choose(5, 14336, 4096))).toBe(true);
    expect(usesMatrices(choose(8, 2048, 8192))).toBe(false);
    expect(isHeavy(gpu(), 5, 8192, 4096)).toBe(true);
    expect(isHeavy(gpu(), 5, 8191, 4096)).toBe(false);
    expect(isHeavy(gpu({ subgroupMatrix: [] }), 8, 14336, 4096)).toBe(false);
    const wide = { dtype: 'float32' as DType, aligned: 8, alongK: true };
    expect(usesMatrices(chooseKernel(gpu(), product({ m: 8, n: 14336, k: 4096, a: wide })))).toBe(false);
  });

  it.each([
    [16, 2048, 2048, 64, 32],
    [16, 4096, 14336, 64, 64],
    [16, 8192, 2048, 16, 64],
    [16, 128256, 2048, 16, 64],
    [32, 2048, 2048, 32, 32],
    [32, 2048, 8192, 64, 64],
    [32, 8192, 2048, 64, 64],
    [8, 14336, 4096, 16, 64],
    [8, 4096, 14336, 64, 64],
  ])('takes tiles for %i rows of %i columns and sums of %i: %i × %i', (m, n, k, rows, columns) => {
    expect(choose(m, n, k).tile).toEqual([rows, columns]);
    // With less workgroup memory the same tiles in shorter steps.
    const small = choose(m, n, k, { workgroupMemory: 32768 });
    expect(small.tile).toEqual([rows, columns]);
    expect(constantsOf(small).step).toBeGreaterThanOrEqual(64);
  });

  it('computes both products of a gated MLP at once from 17 to 64 rows', () => {
    const gated = (m: number) => chooseGated(gpu(), product({ m, n: 8192, k: 2048 }));
    expect([16, 17, 32, 64, 65].map((m) => gated(m) !== undefined)).toEqual([false, true, true, true, false]);
  });
});

describe('the WGSL for matrix units', async () => {
  const all = [...choices().filter(usesMatrices), ...tunedChoices()];

  it('keeps within the memory of the adapter, and cuts tiles without remainder', () => {
    // Few rows take other kernels where their lines are no vectors.
    expect(all.length).toBeGreaterThan(choices().length / 2);
    for (const choice of [8, 16, 32, 64].flatMap((lanes) => choices(lanes)).concat(tunedChoices())) {
      if (!usesMatrices(choice)) continue;
      const c = constantsOf(choice);
      const threads = c.lanes * matrixSubgroups(c);
      expect(threads).toBeLessThanOrEqual(256);
      for (const side of [c.rows, c.columns]) expect(((side * c.step) / 8) % threads).toBe(0);
      // Whole lines at a time, and in eights where lines are dealt out in eights.
      for (const width of [c.step / 8, c.rows / 8, c.columns / 8]) expect(threads % width).toBe(0);
      if (c.step / 8 === 4) expect((threads / (c.step / 8)) % 8).toBe(0);
      expect((c.matrixM * c.subgroupColumns) % (4 * c.lanes)).toBe(0);
    }
  });

  it('loads no matrix from outside of workgroup memory, and from lines that lie on different banks', () => {
    for (const choice of all) {
      const c = constantsOf(choice);
      const vectors = matrixMemory(c) / 16;
      const code = sourceOf(choice, 'float32', false);
      const loads = [...code.matchAll(/subgroupMatrixLoad<(\w+), (\w+)>\(&memory, (.+), (\d+)u\)/g)];
      expect(loads.length).toBe(c.buffers * (c.subgroupRows / c.matrixM + c.subgroupColumns / c.matrixN));
      const lastInStep = c.step / c.matrixK - 1;
      for (const [, type, order, offset, pitch] of loads) {
        expect(Number(pitch) % 2).toBe(1);
        const [rows, columns] = type === 'Left' ? [c.matrixM, c.matrixK] : [c.matrixK, c.matrixN];
        const [lines, length] = order === 'row_major' ? [rows, columns] : [columns, rows];
        const corners = { sub_m: c.rows - c.subgroupRows, sub_n: c.columns - c.subgroupColumns };
        const plain = offset!.replace(/sub_[mn]/g, (name) => `${corners[name as keyof typeof corners]}`);
        const [, corner, operator, factor, move, rest] = /^(\d+) ([*/]) (\d+)u \+ d \* (\d+)u \+ (\d+)u$/.exec(plain)!;
        const ofCorner = operator === '*' ? Number(corner) * Number(factor) : Number(corner) / Number(factor);
        const start = ofCorner + lastInStep * Number(move);
        expect(start + Number(rest) + (lines - 1) * Number(pitch) + length / 8).toBeLessThanOrEqual(vectors);
      }
    }
  });

  it('is valid in every variant', async () => {
    // Dawn's null backend runs nothing, but checks WGSL with every feature there is.
    Object.assign(globalThis, globals);
    const instance = create(['backend=null', 'enable-dawn-features=allow_unsafe_apis']);
    const adapter = await instance.requestAdapter();
    const device = await adapter!.requestDevice({ requiredFeatures: [...adapter!.features] as GPUFeatureName[] });
    const seen = new Set<string>();
    device.pushErrorScope('validation');
    const gated = [49152, 32768].map((workgroupMemory) =>
      chooseGated(gpu({ workgroupMemory }), product({ m: 64, n: 8192 })),
    );
    expect(gated.map((choice) => choice?.constants['step'])).toEqual([128, 64]);
    for (const choice of gated) {
      const { messages } = await device
        .createShaderModule({ code: sourceOf(choice!, 'float16', false, ['b2']) })
        .getCompilationInfo();
      expect(messages.map(({ message }) => message)).toEqual([]);
    }
    for (const choice of all) {
      for (const [output, accumulate, added] of [
        ['float32', false, []],
        ['float16', true, []],
        ['float32', false, ['bias', 'residual']],
      ] as const) {
        const code = sourceOf(choice, output, accumulate, added);
        if (seen.has(code)) continue;
        seen.add(code);
        const { messages } = await device.createShaderModule({ code }).getCompilationInfo();
        expect(messages.map(({ message }) => message)).toEqual([]);
      }
    }
    expect(await device.popErrorScope()).toBeNull();
    expect(seen.size).toBeGreaterThan(50);
    device.destroy();
    expect(instance).toBeDefined();
  });
});

describe('the kernel for matrix units, emulated', async () => {
  const device = await testDevice('matrix');
  const random = uniformSource(5);
  const half = (shape: number[]) => ({
    host: Float64Array.from(decodeBytes(encodeBytes(normalValues(shape, random).data, 'float16'), 'float16')),
    shape,
  });

  // Few cases: each is a pipeline of its own, and compiling an emulation takes seconds.
  it.skipIf(device.info.subgroupMatrix.length === 0).each([
    // float32 sums of exact products.
    [false, true, 72, 56, 96, 'float32', 1e-6],
    [false, true, 300, 260, 48, 'float32', 1e-6],
    // Few rows: long steps, and sums cut into pieces.
    [false, true, 20, 70, 520, 'float32', 1e-6],
    // The result is rounded to float16: 2⁻¹¹.
    [true, false, 66, 500, 63, 'float16', 5e-4],
    [false, false, 64, 64, 64, 'float16', 5e-4],
  ] as const)(
    'multiplies (transposed: %s, %s) %i × %i × %i into %s',
    async (transposeA, transposeB, m, n, k, dtype, limit) => {
      const a = half(transposeA ? [k, m] : [m, k]);
      const b = half(transposeB ? [n, k] : [k, n]);
      const [left, right] = [a, b].map(({ host, shape }) => tensor(device, host, shape, { dtype: 'float16' }));
      const product = matmul(left!, right!, { transposeA, transposeB, dtype });
      const hosts = [a, b].map(({ host, shape }) => ({ shape, data: host }));
      const want = matmulReference(hosts[0]!, hosts[1]!, { transposeA, transposeB });
      expect(relativeError(await product.read(), want.data)).toBeLessThan(limit);
      for (const made of [left!, right!, product]) made.dispose();
    },
  );
});
