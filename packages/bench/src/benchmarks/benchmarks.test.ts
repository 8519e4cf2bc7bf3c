import { describe, expect, it } from 'vitest';
import { keyOf } from '../report/compare.js';
import { copyBenchmark } from './copy.js';
import { benchmarks } from './index.js';
import { peak } from './peak.js';

describe.each([
  { large: false, float16: false },
  { large: true, float16: false },
  { large: true, float16: true },
])('benchmarks at $large, $float16', (scale) => {
  const cases = [peak, ...benchmarks].flatMap(({ name, cases: of }) => of(scale).map((one) => ({ name, ...one })));

  it('tell their cases apart, or runs could not be compared', () => {
    const keys = cases.map(keyOf);
    expect(new Set(keys).size).toBe(keys.length);
  });

  it('say how much work there is, in float16 only where the adapter has it', () => {
    for (const { name, shape, work } of cases) {
      expect(work.flops + work.bytes, `${name} ${shape}`).toBeGreaterThan(0);
      // These measure the peaks, so that one of the two is none.
      if (![peak.name, copyBenchmark.name].includes(name))
        expect(work.flops * work.bytes, `${name} ${shape}`).toBeGreaterThan(0);
      if (!scale.float16) expect(work.precision, `${name} ${shape}`).not.toBe('float16');
    }
  });
});
