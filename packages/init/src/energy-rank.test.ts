import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { energyKept, energyRank, layerEnergyRank } from './energy-rank.js';

const flat = (count: number) => new Array<number>(count).fill(2);

describe('energyRank', () => {
  test('counts the ranks whose energy does not exceed δ, rounded up to a multiple of 8', () => {
    expect(energyRank(flat(100), 0.5)).toBe(56);
    expect(energyRank(flat(100), 0.4)).toBe(40);
    expect(energyRank(flat(100), 0.401)).toBe(40);
    expect(energyRank(flat(100), 0.41)).toBe(48);
    expect(energyRank([10, 1, 1, 1, 1, 1, 1, 1, 1, 1], 0.5)).toBe(8);
    expect(energyRank([3, 2, 1], 0.95, { multipleOf: 1 })).toBe(2);
    expect(energyRank([3, 2, 1], 0.5, { multipleOf: 1 })).toBe(1);
  });

  test('is capped at the number of values', () => {
    expect(energyRank(flat(12), 0.99)).toBe(12);
    expect(energyRank([1], 0.5)).toBe(1);
    expect(energyRank([5, 0, 0], 1, { multipleOf: 1 })).toBe(3);
    expect(energyRank(flat(9), 1)).toBe(9);
  });

  test('a zero matrix has the smallest rank', () => {
    expect(energyRank(new Float64Array(64), 0.95)).toBe(8);
  });

  test('agrees with the formula, and grows with δ', () => {
    const values = fc
      .array(fc.double({ min: 0, max: 1e6, noNaN: true }), { minLength: 1, maxLength: 40 })
      .map((list) => list.sort((a, b) => b - a));
    const share = fc.double({ min: 0.01, max: 1, noNaN: true });
    fc.assert(
      fc.property(values, share, share, (s, a, b) => {
        const [low, high] = a < b ? [a, b] : [b, a];
        expect(energyRank(s, low)).toBeLessThanOrEqual(energyRank(s, high));
        expect(energyRank(s, 1)).toBe(s[0] === 0 ? Math.min(8, s.length) : s.length);
        const rank = energyRank(s, low, { multipleOf: 1 });
        if (rank > 1) expect(energyKept(s, rank)).toBeLessThanOrEqual(low);
        if (rank < s.length && s[0] > 0) expect(energyKept(s, rank + 1)).toBeGreaterThan(low);
      }),
      { seed: 3 },
    );
  });

  test('energyKept', () => {
    expect(energyKept([2, 1, 1], 1)).toBeCloseTo(4 / 6, 15);
    expect(energyKept([2, 1, 1], 3)).toBe(1);
    expect(energyKept([2, 1, 1], 0)).toBe(0);
    expect(energyKept([0, 0], 1)).toBe(1);
    expect(energyKept([1e200, 1e200], 1)).toBeCloseTo(0.5, 15);
  });

  test('refuses bad input', () => {
    for (const energy of [0, -1, 1.01, Number.NaN]) expect(() => energyRank([1], energy)).toThrow(/energy: expected/);
    expect(() => energyRank([], 0.5)).toThrow(/got none/);
    expect(() => energyRank([1, Number.NaN], 0.5)).toThrow(/NaN at index 1/);
    expect(() => energyRank([1, 2], 0.5)).toThrow(/2 at index 1/);
    expect(() => energyRank([-1], 0.5)).toThrow(/-1 at index 0/);
    expect(() => energyRank([1], 0.5, { multipleOf: 0 })).toThrow(/multipleOf/);
  });
});

describe('layerEnergyRank', () => {
  const request = { singularValues: flat(100), energy: 0.5, layerCount: 4 };

  test('fixes the first and last layer only when asked', () => {
    const ranks = (firstAndLastRank?: number) =>
      [0, 1, 2, 3].map((layerIndex) => layerEnergyRank({ ...request, layerIndex, firstAndLastRank }));
    expect(ranks()).toEqual([56, 56, 56, 56]);
    expect(ranks(72)).toEqual([72, 56, 56, 72]);
  });

  test('refuses bad input', () => {
    expect(() => layerEnergyRank({ ...request, layerIndex: 4 })).toThrow(/from 0 to 3/);
    expect(() => layerEnergyRank({ ...request, layerIndex: 0, firstAndLastRank: 101 })).toThrow(/at most 100/);
    expect(() => layerEnergyRank({ ...request, layerIndex: 0, firstAndLastRank: 1.5 })).toThrow(/positive integer/);
  });
});
