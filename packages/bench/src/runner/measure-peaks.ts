import type { Device } from '@zebra/tensor';
import { peak } from '../benchmarks/peak.js';
import type { Precision, Scale } from './case.js';
import type { Budget, Timing } from './measure.js';
import { makeRow, type Peaks, type Row } from './row.js';
import { runCase } from './run-case.js';

/**
 * Runs the cases of the benchmark `peak`; every other row's floor is made of the best of them. A case that fails (too
 * large for the adapter, say) is told and left out.
 *
 * @throws Error when there is no peak of bandwidth, or none of float32, to make floors of
 */
export async function measurePeaks(
  device: Device,
  scale: Scale,
  budget: Budget,
  onRow: (row: Row) => void,
  onFailure: (name: string, shape: string, error: unknown) => void,
): Promise<Peaks> {
  let bandwidth = 0;
  const arithmetic: Partial<Record<Precision, number>> = {};
  for (const one of peak.cases(scale)) {
    let timing: Timing;
    try {
      timing = await runCase(device, one, budget);
    } catch (error) {
      onFailure(peak.name, one.shape, error);
      continue;
    }
    const { flops, bytes, precision = 'float32' } = one.work;
    // The fastest sample, not the median: a peak is what can be had when nothing disturbs.
    if (flops > 0) arithmetic[precision] = Math.max(arithmetic[precision] ?? 0, (flops / timing.min) * 1e3);
    else bandwidth = Math.max(bandwidth, (bytes / timing.min) * 1e3);
    onRow(makeRow(peak.name, one.shape, one.work, timing));
  }
  if (bandwidth === 0 || !arithmetic.float32) throw new Error('bench: the peaks could not be measured');
  return { bandwidth, arithmetic };
}
