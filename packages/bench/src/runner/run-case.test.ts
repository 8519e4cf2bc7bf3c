import { add, type Device, type Tensor, tensor, zeros } from '@zebra/tensor';
import { testDevice } from '@zebra/tensor/testing';
import { expect, it } from 'vitest';
import { recorded } from './recorded.js';
import { runCase } from './run-case.js';

const BUDGET = { total: 1, sample: 0, minSamples: 2, maxSamples: 2 };

it('replays a captured case and frees what it made', async () => {
  const device = await testDevice();
  const before = device.statistics().liveBuffers;
  let factor = 0;
  const prepare = (on: Device) => {
    const x = tensor(on, [1, 2, 3]);
    return recorded(
      on,
      [x],
      () => [add(x, x)],
      () => factor++,
    );
  };
  const timing = await runCase(device, { shape: '3', work: { flops: 3, bytes: 36 }, prepare }, BUDGET);
  expect(timing).toMatchObject({ samples: 2, runsPerSample: 1 });
  // One cold, one warm, two samples: what changes from run to run was written before each.
  expect(factor).toBe(4);
  expect(device.statistics().liveBuffers).toBe(before);
});

it('refuses a case that leaves memory behind', async () => {
  const device = await testDevice();
  const strays: Tensor[] = [];
  const prepare = (on: Device) => {
    strays.push(zeros(on, [4]));
    return { run() {}, dispose() {} };
  };
  const leaking = runCase(device, { shape: 'leaking', work: { flops: 0, bytes: 0 }, prepare }, BUDGET);
  await expect(leaking).rejects.toThrow('1 buffers were left behind');
  for (const stray of strays) stray.dispose();
});
