import { describe, expect, it } from 'vitest';
import { testDevice } from '../testing/index.js';
import { randomNormal } from './normal.js';
import { Random } from './random.js';

describe('Random', () => {
  it('is the same for the same seed and differs for the next', () => {
    const draw = (seed: number) =>
      Array.from(
        { length: 5 },
        (
          (r) => () =>
            r.next()
        )(new Random(seed)),
      );
    expect(draw(7)).toEqual(draw(7));
    expect(draw(7)).not.toEqual(draw(8));
  });

  it('goes on from a saved state', () => {
    const a = new Random(3);
    for (let i = 0; i < 100; i++) a.next();
    const b = Random.from(JSON.parse(JSON.stringify(a.state)));
    expect(Array.from({ length: 10 }, () => b.next())).toEqual(Array.from({ length: 10 }, () => a.next()));
  });

  it('agrees with xoshiro128** computed from its definition in big integers', () => {
    const random = Random.from([1, 2, 3, 4]);
    const mask = 0xffffffffn;
    const rotate = (x: bigint, k: bigint) => ((x << k) | (x >> (32n - k))) & mask;
    let [a, b, c, d] = [1n, 2n, 3n, 4n];
    for (let i = 0; i < 50; i++) {
      const expected = (rotate((b * 5n) & mask, 7n) * 9n) & mask;
      const t = (b << 9n) & mask;
      c ^= a;
      d ^= b;
      b ^= c;
      a ^= d;
      c ^= t;
      d = rotate(d, 11n);
      expect(BigInt(random.next())).toBe(expected);
    }
  });

  it('has the mean and variance of its distributions', () => {
    const random = new Random(1);
    const n = 20_000;
    const normals = Array.from({ length: n }, () => random.normal());
    const mean = normals.reduce((s, x) => s + x, 0) / n;
    expect(Math.abs(mean)).toBeLessThan(4 / Math.sqrt(n));
    expect(normals.reduce((s, x) => s + x * x, 0) / n).toBeCloseTo(1, 1);
    const counts = [0, 0, 0];
    for (let i = 0; i < n; i++) counts[random.integer(3)]!++;
    for (const count of counts) expect(Math.abs(count - n / 3)).toBeLessThan(4 * Math.sqrt(n / 3));
  });
});

describe('randomNormal', async () => {
  const device = await testDevice();

  it('draws normal numbers of the deviation asked for, the same for a seed and others for another', async () => {
    const draw = async (seed: number) => {
      using made = randomNormal(device, [400, 500], { seed, deviation: 2 });
      return (await made.read()) as Float32Array;
    };
    const values = await draw(7);
    const moment = (power: number) => values.reduce((sum, v) => sum + (v / 2) ** power, 0) / values.length;
    // Four standard errors of each moment over 200,000 draws.
    expect(Math.abs(moment(1))).toBeLessThan(0.009);
    expect(Math.abs(moment(2) - 1)).toBeLessThan(0.013);
    expect(Math.abs(moment(3))).toBeLessThan(0.035);
    expect(Math.abs(moment(4) - 3)).toBeLessThan(0.09);
    expect(await draw(7)).toEqual(values);
    const other = await draw(8);
    const correlation = other.reduce((sum, v, i) => sum + v * values[i]!, 0) / (4 * values.length);
    expect(Math.abs(correlation)).toBeLessThan(0.009);
    expect(() => randomNormal(device, [2], { dtype: 'int32' })).toThrow(/float32 or float16/);
  });
});
