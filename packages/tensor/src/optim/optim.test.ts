import { describe, expect, it } from 'vitest';
import { tensor } from '../core/create.js';
import { relativeError, testDevice, uniformSource } from '../testing/index.js';
import { AdamW } from './adamw.js';
import { constantSchedule, cosineSchedule } from './schedule.js';

/** PyTorch's AdamW with clip_grad_norm_, in float64. */
function adamWReference(
  weights: number[][],
  gradients: number[][][],
  rates: number[],
  { beta1 = 0.9, beta2 = 0.95, epsilon = 1e-8, decay = 0.1, most = 1 } = {},
) {
  const w = weights.map((x) => [...x]);
  const m = weights.map((x) => x.map(() => 0));
  const v = weights.map((x) => x.map(() => 0));
  const norms: number[] = [];
  gradients.forEach((step, t) => {
    const norm = Math.sqrt(step.flat().reduce((s, g) => s + g * g, 0));
    norms.push(norm);
    const factor = Math.min(1, most / (norm + 1e-6));
    step.forEach((row, k) => {
      row.forEach((raw, i) => {
        const g = raw * factor;
        m[k]![i] = beta1 * m[k]![i]! + (1 - beta1) * g;
        v[k]![i] = beta2 * v[k]![i]! + (1 - beta2) * g * g;
        const mHat = m[k]![i]! / (1 - beta1 ** (t + 1));
        const vHat = v[k]![i]! / (1 - beta2 ** (t + 1));
        w[k]![i]! -= rates[t]! * (decay * w[k]![i]! + mHat / (Math.sqrt(vHat) + epsilon));
      });
    });
  });
  return { w, norms };
}

describe('AdamW', async () => {
  const device = await testDevice();
  it.each([
    ['native', 1],
    ['native', 1e9],
    ['hardware', 1],
  ] as const)('follows PyTorch over ten steps (%s), clipping at %s, eagerly and recorded', async (variant, most) => {
    const device = await testDevice(variant);
    const random = uniformSource(5);
    const draw = (n: number) => Array.from({ length: n }, () => Math.fround(random() * 2 - 1));
    // The last is longer than a block of the norm, on a GPU too.
    const sizes = [1, 63, 700, 16404];
    const weights = sizes.map(draw);
    const gradients = Array.from({ length: 10 }, () => sizes.map(draw));
    const rates = gradients.map((_, t) => 1e-2 * cosineSchedule({ steps: 10, warmUp: 2 })(t));
    const expected = adamWReference(weights, gradients, rates, { most });
    for (const recorded of [false, true]) {
      const before = device.statistics().liveBuffers;
      const parameters = new Map(weights.map((w, k) => [`p${k}`, tensor(device, w)]));
      const grads = new Map(weights.map((w, k) => [`p${k}`, tensor(device, w)]));
      const optimizer = new AdamW(parameters, { weightDecay: 0.1, maxGradientNorm: most });
      const program = recorded ? device.capture(() => optimizer.apply(grads)) : undefined;
      for (const [t, step] of gradients.entries()) {
        for (const [k, values] of step.entries()) grads.get(`p${k}`)!.write(values);
        optimizer.prepare(rates[t]!);
        if (program) program.run();
        else optimizer.apply(grads);
        // A float32 sum of 17168 squares in blocks.
        expect(Math.abs((await optimizer.gradientNorm.read())[0]! / expected.norms[t]! - 1)).toBeLessThan(1e-5);
      }
      // Ten float32 updates of values near 1: a few units in the last place.
      for (const [k, w] of expected.w.entries())
        expect(relativeError(await parameters.get(`p${k}`)!.read(), w)).toBeLessThan(2e-6);
      program?.dispose();
      optimizer.dispose();
      for (const t of [...parameters.values(), ...grads.values()]) t.dispose();
      expect(device.statistics().liveBuffers).toBe(before);
    }
  });

  it('changes nothing when a gradient is not finite', async () => {
    using w = tensor(device, [1, 2]);
    using g = tensor(device, [1, Number.NaN]);
    const optimizer = new AdamW(new Map([['w', w]]), { weightDecay: 0.1 });
    optimizer.step(new Map([['w', g]]), 0.1);
    expect([...(await w.read())]).toEqual([1, 2]);
    expect(Number.isNaN((await optimizer.gradientNorm.read())[0])).toBe(true);
    g.write([0, 0]);
    optimizer.step(new Map([['w', g]]), 0.1);
    expect((await w.read())[0]).toBeCloseTo(0.99, 5);
    optimizer.dispose();
  });

  it('refuses strange gradients', () => {
    using w = tensor(device, [1, 2]);
    using g = tensor(device, [1]);
    const optimizer = new AdamW(new Map([['w', w]]));
    expect(() => optimizer.step(new Map([['x', w]]), 1)).toThrow(/no parameter/);
    expect(() => optimizer.step(new Map([['w', g]]), 1)).toThrow(/has shape \[1\], the parameter \[2\]/);
    optimizer.dispose();
  });
});

describe('schedules', () => {
  it('warm up, peak at 1 and end low', () => {
    const s = cosineSchedule({ steps: 100, warmUp: 10, final: 0.1 });
    expect(s(0)).toBeCloseTo(0.1);
    expect(s(9)).toBe(1);
    expect(s(10)).toBe(1);
    expect(s(55)).toBeCloseTo(0.55);
    expect(s(100)).toBeCloseTo(0.1);
    expect(s(1000)).toBeCloseTo(0.1);
    expect(cosineSchedule({ steps: 50, warmUp: 0.1 })(0)).toBeCloseTo(0.2);
    expect(constantSchedule(4)(1)).toBe(0.5);
    expect(constantSchedule()(0)).toBe(1);
    expect(() => cosineSchedule({ steps: 0 })).toThrow(/at least 1/);
  });
});
