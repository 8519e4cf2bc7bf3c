import { describe, expect, it } from 'vitest';
import { floorOf, makeRow } from './row.js';

const PEAKS = { bandwidth: 1e9, arithmetic: { float32: 1e10, float16: 4e10 } };
const TIMING = {
  median: 2,
  min: 1,
  max: 4,
  spread: 0.1,
  host: 0.5,
  cpu: 3,
  cpuSpread: 0.1,
  first: 9,
  samples: 5,
  runsPerSample: 20,
};

describe('floorOf', () => {
  it('is the slower of arithmetic and memory', () => {
    expect(floorOf({ flops: 1e7, bytes: 1e5 }, PEAKS)).toEqual({ floor: 1, bound: 'arithmetic' });
    expect(floorOf({ flops: 1e5, bytes: 1e6 }, PEAKS)).toEqual({ floor: 1, bound: 'memory' });
  });

  it('takes the peak of the precision, or float32 where that was not measured', () => {
    const work = { flops: 4e7, bytes: 0, precision: 'float16' } as const;
    expect(floorOf(work, PEAKS).floor).toBe(1);
    expect(floorOf(work, { bandwidth: 1e9, arithmetic: { float32: 1e10 } }).floor).toBe(4);
  });
});

describe('makeRow', () => {
  it('gives rates of the median and the share of the floor', () => {
    const row = makeRow('matmul', 'a', { flops: 1e7, bytes: 1e5, tokens: 8 }, TIMING, PEAKS);
    expect(row).toMatchObject({
      flopsPerSecond: 5e9,
      bytesPerSecond: 5e7,
      tokensPerSecond: 4000,
      share: 0.5,
      host: 0.5,
    });
  });

  it('has no floor where it measures the peaks, and leaves out what is not known', () => {
    const row = makeRow('peak', 'copy', { flops: 0, bytes: 1e6 }, { ...TIMING, host: undefined });
    expect(JSON.parse(JSON.stringify(row))).toEqual(row);
    expect(Object.keys(row)).not.toEqual(expect.arrayContaining(['floor']));
    expect('host' in row).toBe(false);
  });
});
