import { checkOp, testDevice } from '@zebra/tensor/testing';
import { describe, it } from 'vitest';
import { causalConvolutionOp } from './index.js';

// Five terms and a SiLU in float32; weight gradients sum T terms.
const TOLERANCE = { forward: 1e-6, gradient: 3e-6 };

function caseOf(
  batch: number,
  length: number,
  channels: number,
  extra: { segments?: (i: number) => number; state?: boolean } = {},
) {
  return {
    inputs: [
      { shape: [batch, length, channels] },
      { shape: [channels, 1, 4] },
      { shape: [channels] },
      extra.segments && { shape: [batch, length], dtype: 'int32' as const, values: extra.segments },
      extra.state ? { shape: [batch, channels, 4] } : undefined,
    ],
    attributes: {},
  };
}

describe('causal convolution', async () => {
  const device = await testDevice();
  it.each([
    [1, 1, 1],
    [2, 3, 5],
    [1, 63, 7],
    [1, 500, 3],
    [3, 16, 66],
  ])('%i × %i tokens of %i channels', async (b, t, c) =>
    checkOp(device, causalConvolutionOp, caseOf(b, t, c), TOLERANCE),
  );

  it('continues a state', async () => {
    for (const length of [1, 2, 20])
      await checkOp(device, causalConvolutionOp, caseOf(2, length, 5, { state: true }), TOLERANCE);
  });

  it('starts anew with each document', async () => {
    const segments = (i: number) => [0, 0, 1, 2, 2, 2, 2, 2, 5, 5, -1, -1][Math.min(11, Math.floor((i % 40) / 3))]!;
    await checkOp(device, causalConvolutionOp, caseOf(2, 40, 3, { segments }), TOLERANCE);
    await checkOp(device, causalConvolutionOp, caseOf(2, 40, 3, { segments, state: true }), TOLERANCE);
  });

  it('looks through left padding to the state', async () => {
    const segments = (i: number) => (i % 30 < [4, 17][Math.floor(i / 30)]! ? -1 : 3);
    await checkOp(device, causalConvolutionOp, caseOf(2, 30, 3, { segments, state: true }), TOLERANCE);
  });
});

describe('causal convolution on hardware', async () => {
  const device = await testDevice('hardware');
  const segments = (i: number) => [0, 0, 1, 2, 2, 2, -1, 2, 5, 5, -1, -1][Math.min(11, Math.floor((i % 70) / 6))]!;
  it.each([
    [1, 1, 4, {}],
    [2, 35, 8, {}],
    [1, 70, 5, {}],
    [2, 70, 12, { segments }],
    [2, 70, 4, { segments, state: true }],
  ])('%i × %i tokens of %i channels', async (b, t, c, extra) =>
    checkOp(device, causalConvolutionOp, caseOf(b, t, c, extra), TOLERANCE),
  );
});
