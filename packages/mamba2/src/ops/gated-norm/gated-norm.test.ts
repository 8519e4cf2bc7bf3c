import { checkOp, testDevice } from '@zebra/tensor/testing';
import { describe, expect, it } from 'vitest';
import { gatedNormOp } from './index.js';

// One normalisation in float32; WGSL's exp and inverseSqrt are a few ulp off.
const TOLERANCE = { forward: 2e-6, gradient: 5e-6 };
const caseOf = (batch: number, length: number, groups: number, groupSize: number, epsilon = 1e-5) => ({
  inputs: [
    { shape: [batch, length, groups * groupSize] },
    { shape: [batch, length, groups * groupSize] },
    { shape: [groups * groupSize] },
  ],
  attributes: { groupSize, epsilon },
});

describe('gated norm', async () => {
  const device = await testDevice();
  it.each([
    [1, 1, 1, 1],
    [2, 3, 2, 5],
    [1, 63, 4, 16],
    [1, 500, 1, 3],
  ])('%i × %i tokens, %i groups of %i', async (b, t, n, size) =>
    checkOp(device, gatedNormOp, caseOf(b, t, n, size, 0.1), TOLERANCE),
  );

  it('refuses groups that do not fit', () => {
    const spec = { shape: [1, 2, 6], dtype: 'float32' as const };
    const weight = { shape: [6], dtype: 'float32' as const };
    expect(() => gatedNormOp.shape([spec, spec, weight], { groupSize: 4, epsilon: 1e-5 })).toThrow(
      /groupSize must divide the 6 channels, got 4/,
    );
  });
});

describe('gated norm on hardware', async () => {
  const device = await testDevice('hardware');
  it.each([
    [1, 1, 1, 1],
    [1, 63, 2, 20],
    [1, 9, 1, 64],
    [2, 35, 3, 32],
    [1, 37, 5, 128],
    [1, 5, 1, 132],
  ])('%i × %i tokens, %i groups of %i', async (b, t, n, size) =>
    checkOp(device, gatedNormOp, caseOf(b, t, n, size, 0.1), TOLERANCE),
  );
});
