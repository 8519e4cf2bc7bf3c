import { describe, expect, it } from 'vitest';
import { type Budget, measure } from './measure.js';

const BUDGET: Budget = { total: 1000, sample: 40, minSamples: 3, maxSamples: 50 };

/** A device whose clock moves only by what runs cost: `queue` on the host, `device` when it is waited for. */
function fake({
  queue,
  device,
  compile = 0,
  waits = false,
}: Record<'queue' | 'device', number> & { compile?: number; waits?: boolean }) {
  let clock = 0;
  let queued = compile;
  let runs = 0;
  return {
    runs: () => runs,
    clock: () => clock,
    running: {
      run() {
        runs++;
        clock += queue;
        queued += device;
        return waits ? Promise.resolve() : undefined;
      },
      dispose() {},
    },
    surroundings: {
      now: () => clock,
      cpu: () => 2 * clock,
      async synchronize() {
        clock += queued;
        queued = 0;
      },
    },
  };
}

describe('measure', () => {
  it('warms up as long as it is told to, however few runs make a sample', async () => {
    const { running, surroundings, runs } = fake({ queue: 0, device: 50 });
    const timing = await measure(running, { ...BUDGET, warm: 500, total: 0 }, surroundings);
    // The first, ten of 50 ms, three samples.
    expect([runs(), timing.samples]).toEqual([14, 3]);
  });

  it('bunches short runs, keeps compilation out of the samples, and tells the host apart', async () => {
    const { running, surroundings, runs } = fake({ queue: 0.125, device: 0.375, compile: 300 });
    const timing = await measure(running, BUDGET, surroundings);
    expect(timing.first).toBe(300.5);
    expect(timing.runsPerSample).toBeGreaterThanOrEqual(80);
    expect(timing.median).toBeCloseTo(0.5, 9);
    expect(timing.host).toBeCloseTo(0.125, 9);
    expect(timing.cpu).toBeCloseTo(1, 9);
    expect(timing.spread).toBeCloseTo(0, 9);
    expect(timing.samples * timing.runsPerSample).toBeLessThan(runs());
  });

  it('takes one run a sample where runs are long, and no fewer samples than asked for', async () => {
    const { running, surroundings, clock } = fake({ queue: 1, device: 2499 });
    const timing = await measure(running, BUDGET, surroundings);
    expect(timing).toMatchObject({ median: 2500, runsPerSample: 1, samples: 3, host: 1 });
    // One cold, one warm, three samples.
    expect(clock()).toBe(5 * 2500);
  });

  it('ends at the most samples, or when the time is spent', async () => {
    const endless = fake({ queue: 0, device: 50 });
    expect((await measure(endless.running, { ...BUDGET, total: 1e9 }, endless.surroundings)).samples).toBe(50);
    const short = fake({ queue: 0, device: 100 });
    expect((await measure(short.running, BUDGET, short.surroundings)).samples).toBe(10);
  });

  it('gives no host time for runs that wait by themselves', async () => {
    const { running, surroundings } = fake({ queue: 100, device: 0, waits: true });
    expect((await measure(running, BUDGET, surroundings)).host).toBeUndefined();
  });
});
