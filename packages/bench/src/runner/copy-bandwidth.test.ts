import { empty } from '@zebra/tensor';
import { testDevice } from '@zebra/tensor/testing';
import { expect, it } from 'vitest';
import { randomTensor } from '../benchmarks/inputs.js';
import { copyBandwidth, copyByKernel } from './copy-bandwidth.js';

// Below, at and past what a workgroup copies (1024 vectors of four numbers).
it.each([4, 1000, 4096, 4100, 3 * 4096 - 4])('copies %i numbers bit for bit', async (size) => {
  const device = await testDevice();
  using from = randomTensor(device, [size]);
  using to = empty(device, [size]);
  copyByKernel(device, from, to);
  expect(await to.read()).toEqual(await from.read());
});

it('refuses tensors of two sizes', async () => {
  const device = await testDevice();
  using from = randomTensor(device, [8]);
  using to = empty(device, [4]);
  expect(() => copyByKernel(device, from, to)).toThrow(RangeError);
});

it('measures a rate and leaves nothing behind', async () => {
  const device = await testDevice();
  const before = device.statistics().liveBuffers;
  expect(await copyBandwidth(device, { large: false })).toBeGreaterThan(1e6);
  expect(device.statistics().liveBuffers).toBe(before);
});
