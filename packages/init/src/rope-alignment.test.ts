import { describe, expect, test } from 'vitest';
import { type HostMatrix, hostMatrix } from './host-tensor.js';
import { alignKeyHeads, type Turn } from './rope-alignment.js';
import { seededRandom } from './seeded-random.testing.js';

const d = 5;
const headDim = 4;
const pair = [1, 3] as const;

function randomKey(headCount: number, seed: number): HostMatrix {
  const random = seededRandom(seed);
  const count = headCount * headDim * d;
  return hostMatrix(
    headCount * headDim,
    d,
    Float64Array.from({ length: count }, () => 2 * random() - 1),
  );
}

/** The pair of a head's rows as complex numbers. */
function complexRow(key: HostMatrix, head: number): [number, number][] {
  return Array.from({ length: d }, (_, i) => [
    key.data[(head * headDim + pair[0]) * d + i],
    key.data[(head * headDim + pair[1]) * d + i],
  ]);
}

const times = ([a, b]: [number, number], { real, imaginary }: Turn): [number, number] => [
  a * real - b * imaginary,
  a * imaginary + b * real,
];

/** Σ_g ‖K_g − c_g·k̄‖² with k̄ the mean of the turned heads. */
function residual(key: HostMatrix, turns: readonly Turn[]): number {
  const turned = turns.map((turn, head) => complexRow(key, head).map((value) => times(value, turn)));
  let sum = 0;
  for (let i = 0; i < d; i++) {
    const mean: [number, number] = [0, 1].map(
      (part) => turned.reduce((s, row) => s + row[i][part], 0) / turns.length,
    ) as [number, number];
    turns.forEach(({ real, imaginary }, head) => {
      const [a, b] = times(mean, { real, imaginary: -imaginary });
      const [x, y] = complexRow(key, head)[i];
      sum += (x - a) ** 2 + (y - b) ** 2;
    });
  }
  return sum;
}

describe('alignKeyHeads', () => {
  test('equal heads are left alone', () => {
    const one = randomKey(1, 1);
    const key = hostMatrix(3 * headDim, d);
    for (let head = 0; head < 3; head++) key.data.set(one.data, head * one.data.length);
    for (const turn of alignKeyHeads(key, 3, [pair])[0]) {
      expect(turn.real).toBeCloseTo(1, 13);
      expect(turn.imaginary).toBeCloseTo(0, 13);
    }
  });

  test('heads that are turns of one another are matched exactly', () => {
    const key = randomKey(3, 2);
    const turns: Turn[] = [0, 1, 2.5].map((angle, i) => ({
      real: (i + 1) * Math.cos(angle),
      imaginary: (i + 1) * Math.sin(angle),
    }));
    const base = complexRow(key, 0);
    turns.forEach((turn, head) => {
      base.forEach((value, i) => {
        const [a, b] = times(value, turn);
        key.data[(head * headDim + pair[0]) * d + i] = a;
        key.data[(head * headDim + pair[1]) * d + i] = b;
      });
    });
    const found = alignKeyHeads(key, 3, [pair])[0];
    expect(residual(key, found)).toBeLessThan(1e-25);
    // conj(c_g) undoes the turn up to one common factor; |c_g| grows as the head does.
    expect(Math.hypot(found[2].real, found[2].imaginary) / Math.hypot(found[0].real, found[0].imaginary)).toBeCloseTo(
      3,
      12,
    );
  });

  test('no other choice leaves a smaller residual', () => {
    const random = seededRandom(7);
    for (let seed = 0; seed < 20; seed++) {
      const key = randomKey(4, seed);
      const found = alignKeyHeads(key, 4, [pair])[0];
      const smallest = residual(key, found);
      expect(found.reduce((sum, { real, imaginary }) => sum + real ** 2 + imaginary ** 2, 0)).toBeCloseTo(4, 12);
      expect(smallest).toBeLessThan(residual(key, new Array<Turn>(4).fill({ real: 1, imaginary: 0 })));
      for (let trial = 0; trial < 20; trial++) {
        const moved = found.map(({ real, imaginary }) => ({
          real: real + 0.1 * (random() - 0.5),
          imaginary: imaginary + 0.1 * (random() - 0.5),
        }));
        const norm = Math.sqrt(moved.reduce((sum, turn) => sum + turn.real ** 2 + turn.imaginary ** 2, 0) / 4);
        const scaled = moved.map(({ real, imaginary }) => ({ real: real / norm, imaginary: imaginary / norm }));
        expect(residual(key, scaled)).toBeGreaterThanOrEqual(smallest - 1e-12);
      }
    }
  });

  test('zero keys are left alone', () => {
    expect(alignKeyHeads(hostMatrix(2 * headDim, d), 2, [pair])).toEqual([
      [
        { real: 1, imaginary: 0 },
        { real: 1, imaginary: 0 },
      ],
    ]);
  });
});
