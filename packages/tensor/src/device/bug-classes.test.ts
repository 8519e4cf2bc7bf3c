import { describe, expect, it } from 'vitest';
import { tensor } from '../core/create.js';
import { scope } from '../core/scope.js';
import { attention } from '../ops/attention/index.js';
import { matmul } from '../ops/matmul/index.js';
import { add, scale, square } from '../ops/pointwise/index.js';
import { AdamW } from '../optim/index.js';
import { testDevice } from '../testing/index.js';
import { openDevice } from './open.js';

// Bugs that others' recorded programs, pools and float16 kernels have had. Each has a test here that would find it.

const device = await testDevice();

describe('a value that changes from step to step', () => {
  it('is data: a recorded AdamW step follows the rate and the bias corrections of each step', async () => {
    const run = async (record: boolean) => {
      using weight = tensor(device, [1, -2, 3]);
      using gradient = tensor(device, [0.5, 0.25, -1]);
      const optimizer = new AdamW(new Map([['w', weight]]));
      const gradients = new Map([['w', gradient]]);
      const seen: number[][] = [];
      const program = record ? device.capture(() => optimizer.apply(gradients)) : undefined;
      for (const rate of [0.1, 0.1, 0.03, 0]) {
        optimizer.prepare(rate);
        if (program) program.run();
        else optimizer.apply(gradients);
        seen.push([...(await weight.read())]);
      }
      program?.dispose();
      optimizer.dispose();
      return seen;
    };
    const eager = await run(false);
    expect(await run(true)).toEqual(eager);
    // The same gradient at the same rate moves a weight by the rate each time only with the right bias corrections.
    expect(eager[0]![0]).toBeCloseTo(0.9, 5);
    expect(eager[1]![0]).toBeCloseTo(0.8, 5);
    expect(eager[3]).toEqual(eager[2]);
  });
});

describe('memory that is given back while commands that read it wait', () => {
  it('is not overwritten by who gets it next, neither by a kernel nor by the host', async () => {
    const results = Array.from({ length: 40 }, (_, i) => {
      const x = tensor(device, new Float32Array(1000).fill(i));
      const y = square(x);
      // Its buffer goes to the next round's tensor while this round's kernel has not been submitted.
      x.dispose();
      return y;
    });
    for (const [i, y] of results.entries()) {
      expect([...new Set(await y.read())]).toEqual([i * i]);
      y.dispose();
    }
  });

  it('can be destroyed by trim() and by the end of a program without harm to what waits', async () => {
    using x = tensor(device, [1, 2, 3]);
    const doubled = scale(x, 2);
    const gone = square(doubled);
    gone.dispose();
    device.trim();
    const program = device.capture(() => scope(() => add(square(x), x)));
    program.run();
    const after = add(program.result, doubled);
    program.result.dispose();
    program.dispose();
    device.trim();
    expect([...(await after.read())]).toEqual([4, 10, 18]);
    await device.synchronize();
    for (const made of [doubled, after]) made.dispose();
  });

  it('is not shared within a program between what is alive at once', async () => {
    using x = tensor(device, [1, 2, 3, 4]);
    using program = device.capture(() =>
      scope(() => {
        const parts = Array.from({ length: 20 }, (_, i) => scale(x, i));
        return parts.reduce((sum, part) => add(sum, part));
      }),
    );
    for (let i = 0; i < 3; i++) {
      program.run();
      expect([...(await program.result.read())]).toEqual([190, 380, 570, 760]);
    }
    program.result.dispose();
  });
});

describe.skipIf(!device.info.float16).each(['native', 'matrix'] as const)(
  'float16 sums past 65504 (%s)',
  async (variant) => {
    const own = await testDevice(variant);

    it('do not overflow in a product', async () => {
      // 128 · 100 · 100 = 1.28e6 on the way, back to 64 by the second half of the sum.
      const row = Array.from({ length: 256 }, (_, k) => (k < 128 ? 100 : -100));
      const rows = (values: number[], count: number) =>
        tensor(own, Array.from({ length: count }, () => values).flat(), [count, values.length], { dtype: 'float16' });
      using a = rows(row, 64);
      using b = rows(
        row.map((v, k) => (k === 0 ? 100.625 : Math.abs(v))),
        64,
      );
      using product = matmul(a, b, { transposeB: true });
      expect(product.dtype).toBe('float16');
      expect([...new Set(await product.read())]).toEqual([62.5]);
    });

    it('do not overflow in attention: scores of 128 · 60 · 60', async () => {
      const shape = [1, 20, 1, 128];
      using q = tensor(own, new Float32Array(20 * 128).fill(60), shape, { dtype: 'float16' });
      const values = Float32Array.from({ length: 20 * 128 }, (_, i) => Math.floor(i / 128));
      using v = tensor(own, values, shape, { dtype: 'float16' });
      using y = attention(q, q, v, { scale: 1 });
      const got = await y.read();
      // All scores are equal: the mean of the values so far.
      for (let t = 0; t < 20; t++) expect(got[t * 128]).toBeCloseTo(t / 2, 1);
    });
  },
);

describe('a failure on the device', () => {
  it('is reported by the next call, not swallowed', async () => {
    const own = await openDevice();
    own.gpu.createBuffer({ size: 16, usage: 0xffffffff });
    await own.gpu.queue.onSubmittedWorkDone();
    await expect(own.synchronize()).rejects.toThrow(/WebGPU/);
    own.gpu.destroy();
  });
});
