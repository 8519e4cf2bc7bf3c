import { describe, expect, it } from 'vitest';
import { fill, zeros } from '../core/create.js';
import { valueAndGradients } from '../core/gradients.js';
import { scope } from '../core/scope.js';
import { ZebraError } from '../errors.js';
import { matmul } from '../ops/matmul/index.js';
import { sum } from '../ops/reduce/index.js';
import type { AdapterChoice } from './open.js';
import { openDevice } from './open.js';
import { BufferPool } from './pool.js';

const adapter = (process.env['ZEBRA_TEST_ADAPTER'] ?? 'auto') as AdapterChoice;
const MIB = 2 ** 20;

/** The error that `f` throws. */
function errorOf(f: () => unknown): ZebraError {
  try {
    f();
  } catch (error) {
    if (ZebraError.is(error)) return error as ZebraError;
    throw error;
  }
  throw new Error('nothing was thrown');
}

describe('a memory limit', async () => {
  const device = await openDevice({ adapter, memoryLimit: 8 * MIB });

  it('refuses what would pass it, naming the largest items, and stays usable', async () => {
    const weight = fill(device, [1024, 1024], 1);
    const error = errorOf(() => zeros(device, [1300, 1024]));
    expect(error.code).toBe('memory');
    expect(error.message).toMatch(/besides 4\.\d+ MiB in use, but memoryLimit is 8\.00 MiB/);
    expect(error.message).toMatch(/asked for: tensor float32 \[1300, 1024\] of 5\.\d+ MiB/);
    expect(error.message).toMatch(/in use: tensor float32 \[1024, 1024\] of 4\.00 MiB/);
    expect((await weight.read())[0]).toBe(1);
    weight.dispose();
    // What the first one left in the pool gives way.
    zeros(device, [1300, 1024]).dispose();
    device.trim();
  });

  it('refuses a program before it takes anything, by the operations whose memory is largest', () => {
    const before = device.statistics();
    const a = fill(device, [512, 512], 1);
    const step = (count: number) =>
      device.capture(() =>
        scope(() => {
          const { value, gradients } = valueAndGradients(() => {
            let x = a;
            for (let i = 0; i < count; i++) x = matmul(x, a);
            return sum(x);
          }, [a]);
          for (const item of [value, ...gradients]) item?.dispose();
        }),
      );
    // Each product is kept for the backward, 1 MiB each, in memory that the program shares where it can.
    const error = errorOf(() => step(20));
    expect(error.code).toBe('memory');
    expect(error.message).toMatch(/Largest of what was asked for: .*20 × matmul float32 \[512, 512\] of 1\.00 MiB/);
    expect(error.message).toMatch(/matmul gradient/);
    expect(device.statistics().liveBytes).toBe(before.liveBytes + a.storage.byteLength);
    step(2).dispose();
    a.dispose();
    expect(device.statistics().liveBuffers).toBe(before.liveBuffers);
  });
});

describe('a GPU that runs out of memory', () => {
  it('is told as such, with the largest items', async () => {
    // No machine is to be filled up for a test: a device that reports what a full one does.
    const told: ZebraError[] = [];
    let scopes = 0;
    const gpu = {
      createBuffer: () => ({ destroy() {} }),
      pushErrorScope: () => scopes++,
      popErrorScope: async () => ({ message: 'no memory' }),
    } as unknown as GPUDevice;
    const pool = new BufferPool(gpu, {
      maxBufferSize: 2 ** 31,
      memoryLimit: undefined,
      onOutOfMemory: (error) => told.push(error),
    });
    expect(() => pool.allocate(2 ** 31 + 16)).toThrow(/2147483664 bytes.*this adapter's largest is 2147483648/);
    pool.allocate(2 ** 20, { operation: 'small' });
    expect(scopes).toBe(0);
    pool.allocate(2 ** 28, { operation: 'linear', spec: { shape: [8192, 8192], dtype: 'float32' } });
    await Promise.resolve();
    await Promise.resolve();
    expect(scopes).toBe(1);
    expect(told).toHaveLength(1);
    expect(told[0]!.code).toBe('memory');
    expect(told[0]!.message).toMatch(/no memory left.*linear float32 \[8192, 8192\] of 256\.0 MiB.*small of 1\.00 MiB/);
  });
});
