import { afterAll, describe, expect, it } from 'vitest';
import { empty, fill, tensor } from '../core/create.js';
import { valueAndGradients } from '../core/gradients.js';
import { scope } from '../core/scope.js';
import type { Shape } from '../core/shape.js';
import type { Tensor } from '../core/tensor.js';
import { attention } from '../ops/attention/index.js';
import { cast } from '../ops/cast/index.js';
import { crossEntropy } from '../ops/cross-entropy/index.js';
import { embedding } from '../ops/embedding/index.js';
import { linear, matmul } from '../ops/matmul/index.js';
import { add, multiply, silu } from '../ops/pointwise/index.js';
import { sum } from '../ops/reduce/index.js';
import { rmsNorm } from '../ops/rms-norm/index.js';
import { slice } from '../ops/slice/index.js';
import { softmax } from '../ops/softmax/index.js';
import { swiglu } from '../ops/swiglu/index.js';
import { AdamW } from '../optim/index.js';
import { randomNormal } from '../random/normal.js';
import { testDevice } from '../testing/index.js';
import { EagerQueue } from './eager.js';
import { defineKernel, type KernelVariant } from './kernel.js';
import type { AdapterChoice } from './open.js';
import { openDevice } from './open.js';
import { cutByItems } from './pieces.js';
import { pieceFunctions, throughPieces } from './pieces.wgsl.js';
import { BufferPool } from './pool.js';
import type { Storage } from './storage.js';

const device = await testDevice();
const LIMIT = 4096;
const adapter = (process.env['ZEBRA_TEST_ADAPTER'] ?? 'auto') as AdapterChoice;
const cut = await openDevice({ adapter, poison: true, bindingLimit: LIMIT });
const hardware = await testDevice('hardware');
const cutHardware = await openDevice({ adapter, poison: true, software: false, bindingLimit: LIMIT });
afterAll(() => {
  cut.destroy();
  cutHardware.destroy();
});

describe('WGSL of a tensor that is bound in pieces', () => {
  it('reads and writes through functions', () => {
    const through = (source: string) => throughPieces(source, 'x');
    expect(through('let a = x[i] + x[j + 1u];')).toBe('let a = x_of_pieces(i) + x_of_pieces(j + 1u);');
    expect(through('x[i] = f(a, b);')).toBe('set_x_of_pieces(i, f(a, b));');
    expect(through('x[i] += a;')).toBe('set_x_of_pieces(i, x_of_pieces(i) + (a));');
    expect(through('x[x[i]] = x[i + 1u];')).toBe('set_x_of_pieces(x_of_pieces(i), x_of_pieces(i + 1u));');
    expect(through('if (x[i] == a && x[i].y <= b) {')).toBe('if (x_of_pieces(i) == a && x_of_pieces(i).y <= b) {');
    expect(through('for (; k < n; x[k] = 0) {')).toBe('for (; k < n; set_x_of_pieces(k, 0)) {');
  });

  it('leaves other names alone', () => {
    const source = 'let ax = max[i] + p.x[i] + x_t(a.x);';
    expect(throughPieces(source, 'x')).toBe(source);
  });

  it('knows where another variable has the name', () => {
    const f = 'fn f(i: u32, x: vec4<f32>) -> f32 { return x[i]; }';
    const body = (inner: string) => `fn main() { if (a) { let x = ${inner}; y[i] = x[2]; } y[j] = `;
    expect(throughPieces(`${f}${body('x[i]')}x[j]; }`, 'x')).toBe(`${f}${body('x_of_pieces(i)')}x_of_pieces(j); }`);
    const loop = 'for (var x = 0u; x < 2u; x++) { y[x] = x[1]; }';
    expect(throughPieces(`${loop} z = x[1];`, 'x')).toBe(`${loop} z = x_of_pieces(1);`);
    expect(throughPieces('struct S { a: u32, x: u32 } var b = x[1];', 'x')).toContain('x_of_pieces(1)');
  });

  it('leaves comments out', () => {
    const source = '/* [ } x[0] */ let y = 1; // x[1] ]\nz = x[2];';
    expect(throughPieces(source, 'x')).toBe(' let y = 1; \nz = x_of_pieces(2);');
  });

  it('is refused where functions cannot stand in', () => {
    expect(() => throughPieces('atomicAdd(&x[i], 1u);', 'x')).toThrow(/x: a pointer to an element/);
    expect(throughPieces('a & x[i]', 'x')).toBe('a & x_of_pieces(i)');
    expect(() => throughPieces('subgroupMatrixStore<row_major>(&x, 0, m, 4);', 'x')).toThrow(/x: a pointer to it/);
    expect(throughPieces('a[1] & x', 'x')).toBe('a[1] & x');
    expect(() => throughPieces('x[i].y = 1.0;', 'x')).toThrow(/x: a component/);
    expect(() => throughPieces('x[i][2] += 1.0;', 'x')).toThrow(/x: a component/);
    expect(() => throughPieces('x[i]++;', 'x')).toThrow(/x: an element that is counted/);
  });

  it('goes to the piece that an index falls in', () => {
    const cutX = { name: 'x', element: 'f32', pieces: 3, length: 8 } as const;
    const written = pieceFunctions({ ...cutX, access: 'write' });
    expect(written).toContain('if (i < 8u) { return x_piece0[i - 0u]; }');
    expect(written).toContain('if (i < 16u) { x_piece1[i - 8u] = v; return; }');
    expect(written).toContain('  x_piece2[i - 16u] = v; return;');
    expect(pieceFunctions({ ...cutX, access: 'read' })).not.toContain('v');
  });
});

/** Runs the same on a device and on one that binds 4 KiB at once. They must agree to the bit. */
async function compare(
  [all, few]: readonly [typeof device, typeof device],
  shapes: readonly Shape[],
  run: (inputs: readonly Tensor[]) => readonly (Tensor | undefined)[],
): Promise<void> {
  const read = async (one: typeof device) => {
    const before = one.statistics().liveBuffers;
    const inputs = shapes.map((shape, k) => {
      using host = randomNormal(device, shape, { seed: k });
      return host.read().then((values) => tensor(one, values, shape));
    });
    const given = await Promise.all(inputs);
    const outputs = scope(() => [...run(given)] as Tensor[]);
    const values = await Promise.all(outputs.map((output) => output.read()));
    for (const one of [...given, ...outputs]) one.dispose();
    expect(one.statistics().liveBuffers).toBe(before);
    return values;
  };
  const whole = await read(all);
  expect(whole.some((values) => values.byteLength > LIMIT)).toBe(true);
  expect(whole.every((values) => values.every(Number.isFinite))).toBe(true);
  expect(await read(few)).toEqual(whole);
}

describe.each([
  ['native', device, cut],
  ['hardware', hardware, cutHardware],
] as const)('operations on tensors that are larger than one binding (%s)', (_name, all, few) => {
  const same = (shapes: readonly Shape[], run: Parameters<typeof compare>[2]) => compare([all, few], shapes, run);

  it('elementwise, cut by items', () =>
    same([[3, 1000], [3, 1000], [1000]], ([a, b, c]) => {
      const { value, gradients } = valueAndGradients(() => sum(multiply(silu(a!), swiglu(a!, b!))), [a!, b!]);
      return [value, ...gradients, add(a!, c!), cast(cast(a!, 'bfloat16'), 'float32')];
    }));

  it('by rows', () =>
    same([[9, 300], [300]], ([x, weight]) => {
      const { value, gradients } = valueAndGradients(
        () => sum(multiply(softmax(x!), rmsNorm(x!, weight!, { eps: 1e-5 }))),
        [x!, weight!],
      );
      return [value, ...gradients];
    }));

  it('products of few and of many rows, in every order', () =>
    same(
      [
        [40, 50],
        [50, 60],
        [1, 50],
      ],
      ([a, b, row]) => {
        const { value, gradients } = valueAndGradients(() => sum(multiply(matmul(a!, b!), matmul(a!, b!))), [a!, b!]);
        return [value, ...gradients, matmul(row!, b!)];
      },
    ));

  it('attention over queries, and over keys', () =>
    same(
      [
        [1, 20, 4, 16],
        [1, 20, 1, 16],
        [1, 20, 1, 16],
        [1, 40, 2, 16],
        [1, 40, 2, 16],
      ],
      ([q, k, v, keys, values]) => {
        const { value, gradients } = valueAndGradients(() => sum(attention(q!, k!, v!)), [q!, k!, v!]);
        const last = slice(q!, 1, 18, 2);
        return [value, ...gradients, attention(last, keys!, values!)];
      },
    ));

  it('a step of training an embedding that is the head as well', async () => {
    const ids = Int32Array.from({ length: 24 }, (_, i) => (i * 37) % 70);
    await same([[70, 32]], ([table]) => {
      const one = table!.device;
      const inputs = tensor(one, ids);
      const targets = tensor(
        one,
        ids.map((id) => (id + 1) % 70),
      );
      const optimizer = new AdamW(new Map([['table', table!]]), { maxGradientNorm: 1 });
      const { value, gradients } = valueAndGradients(
        () => crossEntropy({ hidden: embedding(table!, inputs), head: table!, targets }),
        new Map([['table', table!]]),
      );
      optimizer.step(gradients, 0.1);
      const updated = add(table!, 0);
      optimizer.dispose();
      return [value, updated];
    });
  });

  it('recorded programs', () =>
    same(
      [
        [30, 64],
        [64, 64],
      ],
      ([x, weight]) => {
        const program = x!.device.capture(() => scope(() => linear(silu(x!), weight!)));
        program.run();
        const result = add(program.result, 0);
        program.dispose();
        return [result];
      },
    ));
});

describe('the cut of a dispatch by items', () => {
  it('takes a dispatch for what a binding holds, and no more bindings', () => {
    const [a, b] = [1, 2].map((value) => fill(cut, [3000], value)) as [Tensor, Tensor];
    const before = cut.statistics().dispatches;
    const y = cut.allocate(4);
    const poison = cut.statistics().dispatches - before;
    y.release();
    add(a, b).dispose();
    // 750 vectors of 16 bytes, 256 of them in 4 KiB: for fresh memory, filled word by word, and for the sum.
    expect(cut.statistics().dispatches - before).toBe(poison + 3 + 3);
    a.dispose();
    b.dispose();
  });

  it('gives each part its items, its bytes and its share of workgroups', () => {
    const kernel = defineKernel({
      name: 'test',
      bindings: { x: 'read', y: 'write', h: 'read' },
      params: { count: 'u32' },
      vectors: () => ({ x: 4 as const }),
      itemwise: () => ['x', 'y'],
      source: () => '',
    });
    const storage = {} as Storage;
    const range = (offset: number, size: number, dtype: 'float16' | 'float32') => ({ storage, offset, size, dtype });
    const bindings = { x: range(256, 8016, 'float32'), y: range(0, 1008, 'float16'), h: range(0, 16, 'float32') };
    const variant = {
      constants: {},
      has: (name: string) => name in bindings,
      dtype: (name: keyof typeof bindings) => bindings[name].dtype,
    } as unknown as KernelVariant;
    // 501 items of 16 and of 2 bytes, the last line of y padded.
    const parts = cutByItems(kernel, variant, { bindings, params: { count: 501 }, groups: 8 }, 4096);
    expect(parts.map(({ bindings: { x, y, h }, params, groups }) => ({ x, y, h, params, groups }))).toEqual([
      { x: range(256, 4096, 'float32'), y: range(0, 512, 'float16'), h: bindings.h, params: { count: 256 }, groups: 5 },
      {
        x: range(4352, 3920, 'float32'),
        y: range(512, 496, 'float16'),
        h: bindings.h,
        params: { count: 245 },
        groups: 4,
      },
    ]);
  });
});

describe('bytes between host and device', () => {
  it('go in steps', async () => {
    const pool = new BufferPool(device.gpu, {
      maxBufferSize: 2 ** 20,
      memoryLimit: undefined,
      onOutOfMemory: () => {},
    });
    const queue = new EagerQueue(device.gpu, pool, device.info.software, 512);
    const storage = pool.allocate(4096);
    const bytes = Uint8Array.from({ length: 2004 }, (_, i) => (7 * i) % 251);
    queue.write({ storage, offset: 8, size: 2004 }, bytes);
    expect(new Uint8Array(await queue.read({ storage, offset: 8, size: 2004 }))).toEqual(bytes);
    expect(new Uint8Array(await queue.read({ storage, offset: 520, size: 8 }))).toEqual(bytes.slice(512, 520));
    storage.release();
    pool.trim();
    pool.afterSubmit();
  });
});

describe('the limits of pieces', () => {
  it('must be numbers that can be bound', async () => {
    for (const bindingLimit of [100, Number.NaN]) {
      await expect(openDevice({ adapter, bindingLimit })).rejects.toThrow(/bindingLimit must be at least 256/);
    }
  });

  it('is told where an adapter has too few bindings', async () => {
    using a = fill(cut, [64, 4096], 1);
    using b = fill(cut, [4096, 2], 1);
    expect(() => matmul(a, b)).toThrow(/1048576 bytes is bound in pieces of 4096.* are \d+ bindings; it has \d+/);
  });

  it('counts elements in 32 bits', () => {
    expect(() => empty(device, [2 ** 16, 2 ** 16])).toThrow(/kernels count at most 4261412864 elements/);
  });

  // Where buffers are as small as bindings there is nothing to cut.
  const { maxStorageBufferBindingSize: own, maxBufferSize } = device.limits;
  it.skipIf(own >= 2 ** 30 || maxBufferSize < 2 * own)('are not needed to be set', async () => {
    const plain = await openDevice({ adapter });
    const size = own / 4 + 1000;
    const y = scope(() => {
      const x = fill(plain, [size], 2);
      return add(multiply(x, x), 1);
    });
    const values = (await y.read()) as Float32Array;
    expect(values.length).toBe(size);
    expect(values.every((value) => value === 5)).toBe(true);
    plain.destroy();
  });
});
