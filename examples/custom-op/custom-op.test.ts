import { tensor } from '@zebra/tensor';
import { testDevice } from '@zebra/tensor/testing';
import { describe, expect, it } from 'vitest';
import { checkSquaredReluGate } from './src/check.js';
import { Classifier } from './src/classifier.js';
import { squaredReluGate } from './src/squared-relu-gate.js';
import { trainClassifier } from './src/train.js';

describe('squaredReluGate', async () => {
  const device = await testDevice();

  it('agrees with its reference', async () => {
    expect(await checkSquaredReluGate(device)).toBe(4);
  });

  it('refuses what does not fit', () => {
    using two = tensor(device, [1, 2]);
    using three = tensor(device, [1, 2, 3]);
    using ids = tensor(device, new Int32Array(2));
    expect(() => squaredReluGate(two, three)).toThrow(/up must be \[2\] like gate, got \[3\]/);
    expect(() => squaredReluGate(ids, two)).toThrow(/gate must be float32 or float16, got int32/);
  });

  it('is trained through, recorded and not, with the same losses', async () => {
    const before = device.statistics().liveBuffers;
    const run = async (steps: number, record: boolean) => {
      using classifier = new Classifier(device);
      const losses: number[] = [];
      for await (const { loss } of trainClassifier(classifier, steps, record)) losses.push(loss);
      return { losses, accuracy: await classifier.accuracy() };
    };
    const { losses, accuracy } = await run(120, true);
    // Two classes: ln 2 = 0.69 is guessing.
    expect(losses[0]).toBeGreaterThan(0.6);
    expect(losses.at(-1)).toBeLessThan(0.1);
    expect(accuracy).toBeGreaterThan(0.95);
    expect((await run(5, false)).losses).toEqual((await run(5, true)).losses);
    expect(device.statistics().liveBuffers).toBe(before);
  });
});
