import { describe, expect, it } from 'vitest';
import { uniformSource } from '../testing/index.js';
import { type Lifetime, mostAlive, shareMemory } from './plan.js';

const life = (item: number, byteLength: number, first: number, last: number): Lifetime<number> => ({
  item,
  byteLength,
  first,
  last,
});

describe('shareMemory', () => {
  it('gives one slot to items that follow each other, and two to those that meet in one command', () => {
    expect(shareMemory([life(0, 8, 0, 1), life(1, 8, 2, 3)])).toHaveLength(1);
    expect(shareMemory([life(0, 8, 0, 2), life(1, 8, 2, 3)])).toHaveLength(2);
    expect(shareMemory([life(0, 4, 0, 1), life(1, 8, 2, 3), life(2, 2, 4, 9)])).toMatchObject([{ byteLength: 8 }]);
    expect(shareMemory([])).toEqual([]);
  });

  it('never lets two items of a slot overlap, whatever the lifetimes', () => {
    const random = uniformSource(3);
    const lives = Array.from({ length: 400 }, (_, item) => {
      const first = Math.floor(random() * 200);
      return life(item, 1 + Math.floor(random() * 50), first, first + Math.floor(random() * 30));
    });
    const slots = shareMemory(lives);
    expect(slots.flatMap(({ items }) => items).sort((a, b) => a - b)).toEqual(lives.map(({ item }) => item));
    for (const { items, byteLength } of slots) {
      const own = items.map((item) => lives[item]!).sort((a, b) => a.first - b.first);
      own.forEach((item, i) => {
        expect(item.byteLength).toBeLessThanOrEqual(byteLength);
        if (i > 0) expect(item.first).toBeGreaterThan(own[i - 1]!.last);
      });
    }
    const total = slots.reduce((sum, { byteLength }) => sum + byteLength, 0);
    expect(total).toBeGreaterThanOrEqual(mostAlive(lives));
    expect(total).toBeLessThan(1.5 * mostAlive(lives));
  });
});

describe('mostAlive', () => {
  it('counts what meets in one command', () => {
    expect(mostAlive([life(0, 8, 0, 2), life(1, 4, 2, 3), life(2, 5, 3, 3)])).toBe(12);
    expect(mostAlive([])).toBe(0);
  });
});
