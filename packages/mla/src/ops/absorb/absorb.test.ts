import { scope, tensor } from '@zebra/tensor';
import { checkOp, testDevice } from '@zebra/tensor/testing';
import { describe, expect, it } from 'vitest';
import { absorbQueries, absorbQueriesOp, expandValues, expandValuesOp } from './index.js';

// float32 sums of at most 63 products.
const TOLERANCE = { forward: 1e-6, gradient: 0 };

const CASES = [
  { lead: [1, 1, 1], keyHeads: 1, nope: 1, rope: 2, value: 1, latent: 1 },
  { lead: [1, 1, 4], keyHeads: 2, nope: 16, rope: 16, value: 32, latent: 32 },
  { lead: [2, 1, 4], keyHeads: 4, nope: 3, rope: 6, value: 5, latent: 63 },
  { lead: [3, 5, 6], keyHeads: 2, nope: 8, rope: 4, value: 7, latent: 12 },
];

describe('absorption', async () => {
  const device = await testDevice();

  it.each(CASES)(
    'absorbQueries agrees with its reference: %j',
    async ({ lead, keyHeads, nope, rope, value, latent }) => {
      const inputs = [{ shape: [...lead, nope + rope] }, { shape: [keyHeads * (nope + value), latent] }];
      await checkOp(device, absorbQueriesOp, { inputs, attributes: { nopeSize: nope, valueSize: value } }, TOLERANCE);
    },
  );

  it.each(CASES)('expandValues agrees with its reference: %j', async ({ lead, keyHeads, nope, value, latent }) => {
    const inputs = [{ shape: [...lead, latent] }, { shape: [keyHeads * (nope + value), latent] }];
    await checkOp(device, expandValuesOp, { inputs, attributes: { nopeSize: nope, valueSize: value } }, TOLERANCE);
  });

  it('refuses what does not fit', () => {
    scope(() => {
      const sizes = { nopeSize: 2, valueSize: 2 };
      const weight = tensor(device, new Float32Array(24), [8, 3]);
      const of = (...shape: number[]) => tensor(device, new Float32Array(shape.reduce((a, b) => a * b)), shape);
      expect(() => absorbQueries(of(1, 1, 3, 4), weight, sizes)).toThrow(
        /weight must be of n·4 rows, n a divisor of 3/,
      );
      expect(() => absorbQueries(of(1, 1, 4, 2), weight, sizes)).toThrow(
        /absorbQueries: q must be wider than nopeSize 2/,
      );
      expect(() => absorbQueries(of(1, 4, 2), weight, sizes)).toThrow(/absorbQueries: q must be \[B, T, heads/);
      expect(() => expandValues(of(1, 1, 4, 5), weight, sizes)).toThrow(/expandValues: x must be \[B, T, heads, 3\]/);
    });
  });
});
