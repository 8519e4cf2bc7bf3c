import { describe, expect, it } from 'vitest';
import { quantile, summarise } from './statistics.js';

describe('quantile', () => {
  it('interpolates between neighbours', () => {
    expect(quantile([1, 2, 4, 8], 0)).toBe(1);
    expect(quantile([1, 2, 4, 8], 0.5)).toBe(3);
    expect(quantile([1, 2, 4, 8], 1)).toBe(8);
    expect(quantile([5], 0.75)).toBe(5);
  });
});

describe('summarise', () => {
  it('takes samples in any order and leaves them as they are', () => {
    const samples = [5, 1, 2, 4, 3];
    expect(summarise(samples)).toEqual({ median: 3, min: 1, max: 5, spread: (4 - 2) / 3 });
    expect(samples).toEqual([5, 1, 2, 4, 3]);
  });

  it('lets one outlier move neither median nor spread far', () => {
    const { median, max, spread } = summarise([10, 10, 10, 10, 1000]);
    expect([median, max, spread]).toEqual([10, 1000, 0]);
  });

  it('has no spread with a single sample, and refuses none', () => {
    expect(summarise([7]).spread).toBe(0);
    expect(() => summarise([])).toThrow('no samples');
  });
});
