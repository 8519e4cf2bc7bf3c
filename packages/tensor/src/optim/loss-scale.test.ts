import { describe, expect, it } from 'vitest';
import { tensor } from '../core/create.js';
import { valueAndGradients } from '../core/gradients.js';
import { multiply } from '../ops/pointwise/index.js';
import { sum } from '../ops/reduce/index.js';
import { relativeError, testDevice } from '../testing/index.js';
import { AdamW } from './adamw.js';
import { LossScale } from './loss-scale.js';

describe('LossScale', async () => {
  const device = await testDevice();
  const draw = (n: number, seed: number) => Array.from({ length: n }, (_, i) => Math.fround(Math.sin(seed + 3 * i)));

  it('is divided out again: the same weights as without one, eagerly and recorded', async () => {
    for (const recorded of [false, true]) {
      const before = device.statistics().liveBuffers;
      const weights = [tensor(device, draw(70, 1)), tensor(device, draw(70, 1))];
      const gradients = [tensor(device, draw(70, 2)), tensor(device, draw(70, 2))];
      const lossScale = new LossScale(device, { initial: 1024, interval: 3 });
      const options = { weightDecay: 0.1, maxGradientNorm: 2 };
      const optimizers = weights.map(
        (w, k) => new AdamW(new Map([['w', w]]), { ...options, ...(k === 1 && { lossScale }) }),
      );
      const steps = optimizers.map((optimizer, k): { run(): void; dispose(): void } => {
        const apply = () => optimizer.apply(new Map([['w', gradients[k]!]]));
        return recorded ? device.capture(apply) : { run: apply, dispose: () => undefined };
      });
      const scales: number[] = [];
      for (let t = 0; t < 7; t++) {
        const scale = (await lossScale.read()).scale;
        scales.push(scale);
        gradients[0]!.write(draw(70, t));
        gradients[1]!.write(draw(70, t).map((g) => g * scale));
        optimizers.forEach((optimizer, k) => {
          optimizer.prepare(0.01);
          steps[k]!.run();
        });
      }
      expect(scales).toEqual([1024, 1024, 1024, 2048, 2048, 2048, 4096]);
      // Powers of two are exact; the bias corrections come from exp in float32, a few units in the last place.
      expect(relativeError(await weights[1]!.read(), await weights[0]!.read())).toBeLessThan(1e-6);
      const status = await optimizers[1]!.gradientNorm.read();
      expect(status[0]).toBeCloseTo((await optimizers[0]!.gradientNorm.read())[0]!, 4);
      expect([status[1], status[2]]).toEqual([4096, 0]);
      // The corrections themselves, against float64.
      expect(relativeError(status.slice(4), [1 - 0.9 ** 7, Math.sqrt(1 - 0.95 ** 7)])).toBeLessThan(1e-6);
      for (const item of [...steps, ...optimizers, lossScale, ...weights, ...gradients]) item.dispose();
      expect(device.statistics().liveBuffers).toBe(before);
    }
  });

  it('falls where a step overflows, which changes nothing and counts nowhere', async () => {
    using w = tensor(device, [1, 2]);
    using w2 = tensor(device, [1, 2]);
    using g = tensor(device, [1, Number.POSITIVE_INFINITY]);
    const lossScale = new LossScale(device, { initial: 8, minimum: 2 });
    const optimizer = new AdamW(new Map([['w', w]]), { weightDecay: 0.1, lossScale });
    const plain = new AdamW(new Map([['w', w2]]), { weightDecay: 0.1 });
    const step = () => optimizer.step(new Map([['w', g]]), 0.1);
    const expected = [4, 2, 2];
    for (const [index, scale] of expected.entries()) {
      step();
      expect([...(await w.read())]).toEqual([1, 2]);
      expect(await lossScale.read()).toEqual({ scale, goodSteps: 0, skippedSteps: index + 1 });
    }
    g.write([2, -4]);
    step();
    expect((await optimizer.gradientNorm.read())[2]).toBe(3);
    // The first step that counts is the first of all for the optimizer, though three were skipped.
    g.write([1, -2]);
    plain.step(new Map([['w', g]]), 0.1);
    expect(relativeError(await w.read(), await w2.read())).toBeLessThan(1e-6);
    expect(await lossScale.read()).toEqual({ scale: 2, goodSteps: 1, skippedSteps: 3 });
    for (const item of [optimizer, plain, lossScale]) item.dispose();
  });

  it('seeds a backward pass, of a loss of any shape of one element', async () => {
    using x = tensor(device, [1, 2, 3], [1, 3]);
    const lossScale = LossScale.fixed(device, 512);
    const options = { seed: lossScale.seed };
    for (const keepDimensions of [false, true]) {
      const { value, gradients } = valueAndGradients(
        () => sum(multiply(x, 2), keepDimensions ? { axes: [1] } : {}),
        [x],
        options,
      );
      expect(await value.item()).toBe(12);
      expect([...(await gradients[0]!.read())]).toEqual([1024, 1024, 1024]);
      for (const item of [value, ...gradients]) item?.dispose();
    }
    expect(() => valueAndGradients(() => sum(x), [x], { seed: x })).toThrow(/one element/);
    lossScale.dispose();
  });

  it('refuses options that make no scale', () => {
    expect(() => new LossScale(device, { initial: 0.5 })).toThrow(/minimum ≤ initial/);
    expect(() => new LossScale(device, { backoff: 2 })).toThrow(/backoff/);
    expect(() => LossScale.fixed(device, 0)).toThrow(/minimum/);
  });
});
