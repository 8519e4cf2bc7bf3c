import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { describe, expect, it } from 'vitest';
import { testDevice } from '../testing/index.js';
import { drain, pointSource, regression } from './test-run.js';
import { train } from './train.js';

describe('a run with a loss scale', async () => {
  const device = await testDevice();

  it('gives the losses of one without, also over accumulated batches', async () => {
    for (const accumulate of [1, 3]) {
      const before = device.statistics().liveBuffers;
      const plain = regression(device, { accumulate });
      const scaled = regression(device, { accumulate, lossScale: { interval: 3 } });
      const want = await drain(train(plain.options));
      const got = await drain(train(scaled.options));
      expect(got.error).toBeUndefined();
      got.metrics.forEach(({ loss, lossScale, skippedSteps }, index) => {
        // Powers of two are exact; bias corrections differ in the last places.
        expect(Math.abs(loss - want.metrics[index]!.loss)).toBeLessThanOrEqual(1e-5 * want.metrics[index]!.loss);
        expect([lossScale, skippedSteps]).toEqual([65536 * 2 ** Math.floor(index / 3), 0]);
      });
      expect(want.metrics[0]).not.toHaveProperty('lossScale');
      for (const model of [plain, scaled]) model.dispose();
      expect(device.statistics().liveBuffers).toBe(before);
    }
  });

  it('survives overflows, recorded or not, and does not call them a divergence', async () => {
    for (const record of [true, false]) {
      // The gradients, near 1, times 2¹²⁷ and less overflow float32 in their squares down to about 2⁶⁴.
      const lossScale = { initial: 2 ** 127, maximum: 2 ** 127, backoff: 2 ** -16 };
      const model = regression(device, { lossScale, record, steps: 10, maxNonFiniteSteps: 2 });
      const { metrics, error } = await drain(train(model.options));
      expect(error).toBeUndefined();
      const skipped = metrics[9]!.skippedSteps!;
      expect(skipped).toBeGreaterThan(2);
      expect(metrics.map((step) => step.skippedSteps)).toEqual(metrics.map((_, index) => Math.min(index + 1, skipped)));
      expect(metrics[skipped]!.lossScale).toBe(2 ** (127 - 16 * skipped));
      expect(Number.isFinite(metrics[9]!.gradientNorm)).toBe(true);
      // The steps that were not skipped moved the weights from 0.1.
      expect((await model.weight.read())[0]).not.toBeCloseTo(0.1, 3);
      model.dispose();
    }
  });

  it('gives up where the scale is at its minimum, or the loss itself is not finite', async () => {
    const fixed = regression(device, { lossScale: 2 ** 127, maxNonFiniteSteps: 2 });
    expect((await drain(train(fixed.options))).error?.message).toMatch(/not finite in 2 steps/);
    fixed.dispose();
    const data = { ...pointSource(12), next: () => ({ x: new Array(84).fill(0), y: new Array(12).fill(Number.NaN) }) };
    const broken = regression(device, { lossScale: {}, data, maxNonFiniteSteps: 2 });
    expect((await drain(train(broken.options))).error?.message).toMatch(/not finite in 2 steps/);
    broken.dispose();
  });

  it('goes on bit for bit after a resume, scale and skipped steps included', async () => {
    const root = await mkdtemp(join(tmpdir(), 'zebra-scale-'));
    try {
      const lossScale = { initial: 2 ** 96, maximum: 2 ** 96, backoff: 2 ** -16, interval: 2 };
      const whole = regression(device, { lossScale, steps: 12 });
      const want = await drain(train(whole.options));
      const folder = join(root, 'run');
      const first = regression(device, { lossScale, steps: 5, checkpoint: { folder, every: 5 } });
      const begun = await drain(train(first.options));
      const second = regression(device, { lossScale, steps: 12, checkpoint: { folder, every: 5 }, resume: true });
      const ended = await drain(train(second.options));
      const pick = ({ step, loss, gradientNorm, lossScale: scale, skippedSteps }: (typeof want.metrics)[number]) => ({
        step,
        loss,
        gradientNorm,
        scale,
        skippedSteps,
      });
      expect([...begun.metrics, ...ended.metrics].map(pick)).toEqual(want.metrics.map(pick));
      expect(want.metrics[11]!.skippedSteps).toBeGreaterThan(0);
      for (const [name, parameter] of whole.parameters) {
        expect([...(await second.parameters.get(name)!.read())]).toEqual([...(await parameter.read())]);
      }
      for (const model of [whole, first, second]) model.dispose();
    } finally {
      await rm(root, { recursive: true, force: true });
    }
  });
});
