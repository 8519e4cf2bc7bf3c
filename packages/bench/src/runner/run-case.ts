import type { Device } from '@zebra/tensor';
import type { Case } from './case.js';
import { type Budget, measure, type Timing } from './measure.js';

/** Prepares, measures and frees one case. Throws when it leaves memory behind, too. */
export async function runCase(device: Device, one: Case, budget: Budget): Promise<Timing> {
  const before = device.statistics().liveBuffers;
  const running = one.prepare(device);
  let timing: Timing;
  try {
    await device.synchronize();
    timing = await measure(running, budget, {
      synchronize: () => device.synchronize(),
      now: () => performance.now(),
      cpu: () => {
        const { user, system } = process.cpuUsage();
        return (user + system) / 1e3;
      },
    });
  } finally {
    running.dispose();
    // The next case must find the memory free, whatever its sizes are.
    device.trim();
  }
  const left = device.statistics().liveBuffers - before;
  if (left > 0) throw new Error(`${left} buffers were left behind`);
  return timing;
}
