import type { Device } from '@zebra/tensor';
import type { Case, Sample } from './case.js';
import { type Budget, measure, type Timing } from './measure.js';
import { summarise } from './statistics.js';

/** Prepares, measures and frees one case. Throws when it leaves memory behind, too. */
export async function runCase(device: Device, one: Case, budget: Budget): Promise<Timing> {
  if (one.sample) return timingOf(await one.sample(device));
  const held = () => {
    const { liveBytes, pooledBytes } = device.statistics();
    return liveBytes + pooledBytes;
  };
  device.trim();
  const before = device.statistics().liveBuffers;
  const heldBefore = held();
  const running = one.prepare(device);
  let timing: Timing;
  try {
    await device.synchronize();
    // What only the making of inputs needed is not the case's.
    device.trim();
    const measured = await measure(running, budget, {
      synchronize: () => device.synchronize(),
      now: () => performance.now(),
      cpu: () => {
        const { user, system } = process.cpuUsage();
        return (user + system) / 1e3;
      },
    });
    timing = { ...measured, memory: held() - heldBefore };
  } finally {
    running.dispose();
    // The next case must find the memory free, whatever its sizes are.
    device.trim();
  }
  const left = device.statistics().liveBuffers - before;
  if (left > 0) throw new Error(`${left} buffers were left behind`);
  return timing;
}

function timingOf(samples: readonly Sample[]): Timing {
  const cpu = summarise(samples.map((sample) => sample.cpu));
  return {
    ...summarise(samples.map(({ time }) => time)),
    host: undefined,
    cpu: cpu.median,
    cpuSpread: cpu.spread,
    first: samples[0]!.time,
    samples: samples.length,
    runsPerSample: 1,
    memory: Math.max(...samples.map(({ memory }) => memory)),
  };
}
