import { Random } from '@zebra/tensor';
import { testDevice } from '@zebra/tensor/testing';
import { expect, it } from 'vitest';
import { comparePasses, copySymbols } from './src/decode.js';
import { CopyModel } from './src/model.js';
import { COPY, randomSymbols, SYMBOLS } from './src/task.js';
import { trainCopying } from './src/train.js';

it('learns to copy and decodes with the latent cache', async () => {
  const device = await testDevice();
  const before = device.statistics().liveBuffers;
  {
    using model = new CopyModel(device);
    const losses = await trainCopying(model, { steps: 60 });
    // At first it can only guess, at ln 16 = 2.77 nats; at the end it copies.
    expect(losses[0]).toBeGreaterThan(0.95 * Math.log(SYMBOLS));
    expect(losses.at(-1)).toBeLessThan(0.5);

    const random = new Random(3);
    const symbols = randomSymbols(random);
    expect(await copySymbols(model, symbols)).toEqual(symbols);

    // Absorbed and decompressed attention round differently: a few units in float32's last place after two layers.
    const { difference, largest } = await comparePasses(model, [...symbols, COPY, ...randomSymbols(random)]);
    expect(difference / largest).toBeLessThan(1e-5);

    const cache = model.newCache(1, 4);
    // Two layers of 16 latent and 8 rotary numbers, 4 bytes each.
    expect(cache.bytesPerToken).toBe(2 * (16 + 8) * 4);
    cache.dispose();
  }
  expect(device.statistics().liveBuffers).toBe(before);
});
