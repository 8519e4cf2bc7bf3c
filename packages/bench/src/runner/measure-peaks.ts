import type { Device } from '@zebra/tensor';
import { peak } from '../benchmarks/peak.js';
import type { Scale } from './case.js';
import type { Budget } from './measure.js';
import { makeRow, type Peaks, type Row } from './row.js';
import { runCase } from './run-case.js';

/** Runs the cases of the benchmark `peak`; every other row's floor is made of the best of them. */
export async function measurePeaks(
  device: Device,
  scale: Scale,
  budget: Budget,
  onRow: (row: Row) => void,
): Promise<{ readonly peaks: Peaks; readonly rows: readonly Row[] }> {
  const rows: Row[] = [];
  let bandwidth = 0;
  const arithmetic: Partial<Record<string, number>> = {};
  for (const one of peak.cases(scale)) {
    const timing = await runCase(device, one, budget);
    const row = makeRow(peak.name, one.shape, one.work, timing);
    const { flops, bytes, precision = 'float32' } = one.work;
    // The fastest sample, not the median: a peak is what can be had when nothing disturbs.
    if (flops > 0) arithmetic[precision] = Math.max(arithmetic[precision] ?? 0, (flops / timing.min) * 1e3);
    else bandwidth = Math.max(bandwidth, (bytes / timing.min) * 1e3);
    rows.push(row);
    onRow(row);
  }
  return { peaks: { bandwidth, arithmetic }, rows };
}
