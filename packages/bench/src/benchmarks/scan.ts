import { stateSpaceScan } from '@zebra/mamba2';
import { type Device, keep, randomNormal, type Shape, scope, shift, sum, valueAndGradients } from '@zebra/tensor';
import type { Benchmark, Case, Precision } from '../runner/case.js';
import { recorded } from '../runner/recorded.js';

interface Sizes {
  readonly batch: number;
  readonly length: number;
  readonly heads: number;
  /** Heads of x and B. */
  readonly groups: number;
  /** P and N. */
  readonly size: number;
}

function prepare(device: Device, { batch, length, heads, groups, size }: Sizes, dtype: Precision, backward: boolean) {
  const made = (shape: Shape, seed: number) => randomNormal(device, shape, { seed, dtype });
  // Steps of 0.01 to 0.1, rates of 1 to 16.
  const gate = (seed: number, mean: number) =>
    keep(scope(() => shift(randomNormal(device, [heads], { seed, deviation: 0.7 }), mean)));
  const operands = {
    x: made([batch, length, groups, size], 1),
    b: made([batch, length, groups, size], 2),
    c: made([batch, length, heads, size], 3),
    dt: made([batch, length, heads], 4),
    dtBias: gate(5, -3.5),
    aLog: gate(6, 1.5),
    skip: gate(7, 1),
  };
  const inputs = Object.values(operands);
  return recorded(device, inputs, () => {
    if (!backward) return [stateSpaceScan(operands).y];
    const { value, gradients } = valueAndGradients(() => sum(stateSpaceScan(operands).y), inputs);
    return [value, ...gradients];
  });
}

function scanCases(sizes: Sizes, dtype: Precision): Case[] {
  const { batch, length, heads, groups, size } = sizes;
  const shape = `B${batch} T${length} H${heads} P${size} N${size} G${groups}${dtype === 'float16' ? '' : ` ${dtype}`}`;
  const tokens = batch * length;
  // x, B, C, dt and y; backward the same again, their gradients.
  const bytes = (dtype === 'float16' ? 2 : 4) * tokens * (2 * groups * size + 2 * heads * size + heads);
  return [false, true].map((backward) => ({
    shape: `${backward ? '+backward' : 'forward'} ${shape}`,
    work: {
      // Decay, outer product and their sum, product with C and its sum, an entry of the state and token.
      flops: 5 * tokens * heads * size * size * (backward ? 3 : 1),
      bytes: bytes * (backward ? 3 : 1),
      precision: dtype,
      tokens,
    },
    prepare: (device) => prepare(device, sizes, dtype, backward),
  }));
}

/** Mamba2's scan alone. */
export const scanBenchmark: Benchmark = {
  name: 'scan',
  cases({ large, float16 }) {
    if (!large) return scanCases({ batch: 4, length: 256, heads: 4, groups: 4, size: 16 }, 'float32');
    if (!float16) return [];
    const sizes = { batch: 8, length: 2048, heads: 32, size: 64 };
    return [
      ...scanCases({ ...sizes, groups: 32 }, 'float16'),
      ...scanCases({ ...sizes, batch: 4, groups: 8 }, 'float16'),
    ];
  },
};
