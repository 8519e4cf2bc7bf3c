import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { placeLayers } from './placement.js';
import { PlacementError } from './placement-error.js';
import { describePlacement, placementViolations, summarisePlacement } from './placement-report.js';

const evens = (count: number) => Array.from({ length: count }, (_, i) => 2 * i);

// Zebra-Llama's published placements.
const published: [name: string, layers: number, indices: number[]][] = [
  ['1B 4', 16, [0, 5, 10, 14]],
  ['1B 6', 16, [0, 2, 5, 8, 11, 14]],
  ['1B 8', 16, evens(8)],
  ['3B 6', 28, [0, 5, 10, 16, 21, 26]],
  ['3B 8', 28, [0, 3, 7, 10, 14, 18, 22, 26]],
  ['3B 14', 28, evens(14)],
  ['8B 8', 32, [0, 4, 8, 12, 16, 20, 25, 30]],
  ['8B 16', 32, evens(16)],
];

/** The rule word by word, by trying every set: the first of the best in lexicographic order. */
function bruteForce(scores: readonly number[], count: number): number[] {
  const layers = scores.length;
  if (count === 0) return [];
  const best = (start: number, end: number) => {
    const values = scores.slice(start, end);
    return start + values.indexOf(Math.max(...values));
  };
  if (count === 1) return [best(0, layers)];
  const reach = Math.floor(layers / count);
  const first = best(0, reach);
  const last = best(layers - reach, layers);
  const mean = (last - first - count + 1) / (count - 1);
  let winner: number[] = [];
  let winning = Number.NEGATIVE_INFINITY;
  const extend = (chosen: number[]) => {
    const previous = chosen[chosen.length - 1];
    if (chosen.length === count) {
      const sum = chosen.reduceRight((total, index) => total + scores[index], 0);
      if (previous === last && sum > winning) [winner, winning] = [chosen, sum];
      return;
    }
    for (let next = previous + 1; next <= last; next++) {
      const gap = next - previous - 1;
      if (gap === Math.floor(mean) || gap === Math.ceil(mean)) extend([...chosen, next]);
    }
  };
  extend([first]);
  return winner;
}

describe('placeLayers', () => {
  test.each(published)('published placement %s obeys the rule and is found', (_, layers, indices) => {
    expect(placementViolations(indices, layers)).toEqual([]);
    const peaked = Array.from({ length: layers }, (_, i) => (indices.includes(i) ? 1 : 0));
    expect(placeLayers(peaked, indices.length)).toEqual(indices);
    // Also where the peaks differ in height and stand on noise.
    const uneven = peaked.map((value, i) => value * (1 + ((i * 7) % 5)) + 0.01 * Math.sin(i));
    expect(placeLayers(uneven, indices.length)).toEqual(indices);
  });

  test('equals trying every set, integer scores with many ties', () => {
    const scores = fc.array(fc.integer({ min: -2, max: 2 }), { minLength: 1, maxLength: 14 });
    fc.assert(
      fc.property(scores, (list) => {
        for (let count = 0; count <= list.length; count++) {
          expect(placeLayers(list, count)).toEqual(bruteForce(list, count));
        }
      }),
      { numRuns: 300, seed: 1 },
    );
  });

  test('equals trying every set, real scores', () => {
    const score = fc.double({ min: -1e3, max: 1e3, noNaN: true });
    fc.assert(
      fc.property(fc.array(score, { minLength: 1, maxLength: 14 }), (list) => {
        for (let count = 0; count <= list.length; count++) {
          const sum = (indices: number[]) => indices.reduce((total, index) => total + list[index], 0);
          const [actual, expected] = [placeLayers(list, count), bruteForce(list, count)];
          // Which of two sums that differ by rounding alone is the larger depends on the order of addition.
          expect(Math.abs(sum(actual) - sum(expected))).toBeLessThan(1e-9);
          expect(placementViolations(actual, list.length)).toEqual([]);
          expect([actual[0], actual.at(-1)]).toEqual([expected[0], expected.at(-1)]);
        }
      }),
      { numRuns: 300, seed: 2 },
    );
  });

  test('every result obeys the rule, at any size', () => {
    const scores = fc.array(fc.double({ min: -1, max: 1, noNaN: true }), { minLength: 1, maxLength: 130 });
    fc.assert(
      fc.property(scores, fc.nat(), (list, seed) => {
        const count = seed % (list.length + 1);
        const indices = placeLayers(list, count);
        expect(indices).toHaveLength(count);
        expect(placementViolations(indices, list.length)).toEqual([]);
      }),
      { numRuns: 500, seed: 3 },
    );
  });

  test('none, one, all', () => {
    expect(placeLayers([], 0)).toEqual([]);
    expect(placeLayers([1, 3, 2], 0)).toEqual([]);
    expect(placeLayers([1, 3, 2], 1)).toEqual([1]);
    expect(placeLayers([1, 3, 2], 3)).toEqual([0, 1, 2]);
    expect(placeLayers([-5, -1, -3, -2], 2)).toEqual([1, 3]);
  });

  test('ties go to lower indices', () => {
    expect(placeLayers(new Array(16).fill(0), 4)).toEqual([0, 4, 8, 12]);
    expect(placeLayers(new Array(7).fill(1), 1)).toEqual([0]);
    // Gaps of 1 and 2 in some order: the narrow one comes first.
    expect(placeLayers([9, 0, 0, 0, 0, 9], 3)).toEqual([0, 2, 5]);
  });

  test('refuses impossible requests', () => {
    for (const count of [4, -1, 1.5, Number.NaN]) {
      expect(() => placeLayers([1, 2, 3], count)).toThrow(PlacementError);
      expect(() => placeLayers([1, 2, 3], count)).toThrow(`count: expected an integer from 0 to 3`);
    }
    expect(() => placeLayers([1, Number.NaN], 1)).toThrow(/scores: expected finite numbers, got NaN for layer 1/);
    expect(() => placeLayers([Number.POSITIVE_INFINITY], 1)).toThrow(/got Infinity for layer 0/);
  });
});

describe('placement reports', () => {
  test('summary and text', () => {
    const scores = [1, 0, 0, 0.5, 0, 0.25];
    expect(summarisePlacement([0, 3, 5], scores)).toEqual({ indices: [0, 3, 5], gaps: [2, 1], score: 1.75 });
    expect(describePlacement([0, 3, 5], scores)).toBe('3 of 6 layers: 0, 3, 5; gaps 2, 1; score 1.750 of 1.750');
    expect(describePlacement([], scores)).toBe('0 of 6 layers; score 0.000 of 1.750');
  });

  test('violations', () => {
    expect(placementViolations([4, 8, 12, 15], 16)).toEqual(['the first layer 4 has to be below 4']);
    expect(placementViolations([0, 4, 8, 11], 16)).toEqual(['the last layer 11 has to be at least 12']);
    expect(placementViolations([0, 1, 8, 12], 16)).toEqual([
      'the gap after layer 0 is 0, not 3',
      'the gap after layer 1 is 6, not 3',
    ]);
    expect(placementViolations([3, 3], 16)).toHaveLength(1);
    expect(placementViolations([0, 16], 16)).toHaveLength(1);
  });
});
