import { checkOp, testDevice, uniformSource } from '@zebra/tensor/testing';
import { describe, it } from 'vitest';
import { type Mamba2Config, mamba2Sizes } from '../../config.js';
import { mixerOp, statefulMixerOp } from './index.js';

// Convolution, scan and norm in a row, each within a few 1e-6.
const TOLERANCE = { forward: 1e-5, gradient: 5e-5, numeric: 1e-4 };

function caseOf(
  batch: number,
  length: number,
  config: Omit<Mamba2Config, 'hiddenSize'>,
  segments?: (i: number) => number,
  state = false,
) {
  const sizes = mamba2Sizes({ hiddenSize: 8, normEpsilon: 0.1, ...config });
  const random = uniformSource(3);
  return {
    inputs: [
      { shape: [batch, length, sizes.projectionSize] },
      { shape: [sizes.convSize, 1, 4] },
      { shape: [sizes.convSize] },
      { shape: [sizes.headCount], values: () => -1 - 3 * random() },
      { shape: [sizes.headCount], values: () => Math.log(1 + 15 * random()) },
      { shape: [sizes.headCount] },
      { shape: [sizes.innerSize] },
      segments && { shape: [batch, length], dtype: 'int32' as const, values: segments },
      ...(state
        ? [{ shape: [batch, sizes.convSize, 4] }, { shape: [batch, sizes.headCount, sizes.headDim, sizes.headDim] }]
        : []),
    ],
    attributes: sizes,
  };
}

const shared = { headCount: 4, keyValueHeadCount: 2, headDim: 4 };
const packed = (i: number) => [0, 1, 1, 2, -1][Math.floor((i % 70) / 15)]!;

describe('mamba2 mixer', async () => {
  const device = await testDevice();
  it.each([
    ['one token', caseOf(1, 1, shared)],
    ['odd sizes', caseOf(2, 19, { headCount: 3, keyValueHeadCount: 1, headDim: 5 })],
    ['63 tokens', caseOf(1, 63, { headCount: 2, keyValueHeadCount: 1, headDim: 3 })],
    ['500 tokens', caseOf(1, 500, { headCount: 1, keyValueHeadCount: 1, headDim: 3 })],
    ['packed rows', caseOf(2, 70, shared, packed)],
    ['heads repeated before the convolution', caseOf(1, 70, { ...shared, repeatKvBeforeConv: true }, packed)],
    ['as many key/value heads as heads', caseOf(1, 66, { headCount: 2, keyValueHeadCount: 2, headDim: 4 })],
  ])('%s', async (_name, testCase) => checkOp(device, mixerOp, testCase, TOLERANCE));

  it('continues states, in steps too', async () => {
    for (const length of [1, 2, 66]) {
      await checkOp(device, statefulMixerOp, caseOf(2, length, shared, undefined, true), TOLERANCE);
      await checkOp(
        device,
        statefulMixerOp,
        caseOf(2, length, { ...shared, repeatKvBeforeConv: true }, undefined, true),
        TOLERANCE,
      );
    }
    await checkOp(
      device,
      statefulMixerOp,
      caseOf(2, 1, shared, (i) => -i, true),
      TOLERANCE,
    );
    await checkOp(
      device,
      statefulMixerOp,
      caseOf(2, 9, shared, (i) => (i < 5 ? -1 : 0), true),
      TOLERANCE,
    );
  });
});

describe('mamba2 mixer on hardware', async () => {
  const device = await testDevice('hardware');
  it('packed rows', async () => checkOp(device, mixerOp, caseOf(2, 70, shared, packed), TOLERANCE));

  it.each([
    ['heads of 4', shared],
    ['heads of 5', { headCount: 3, keyValueHeadCount: 1, headDim: 5 }],
    ['heads of 64', { headCount: 4, keyValueHeadCount: 2, headDim: 64 }],
    ['heads too large for one workgroup', { headCount: 1, keyValueHeadCount: 1, headDim: 132 }],
    ['heads repeated before the convolution', { ...shared, repeatKvBeforeConv: true }],
  ])('one step, %s', async (_name, config) => {
    await checkOp(device, statefulMixerOp, caseOf(3, 1, config, undefined, true), TOLERANCE);
    await checkOp(
      device,
      statefulMixerOp,
      caseOf(2, 1, config, (i) => -i, true),
      TOLERANCE,
    );
  });
});

describe('mamba2 mixer in float16 on matrix units, emulated', async () => {
  const device = await testDevice('matrix');
  const half = (value: number) => {
    const unit = 2 ** (Math.max(-14, Math.floor(Math.log2(Math.abs(value) || 1))) - 10);
    return Math.round(value / unit) * unit;
  };
  const rows = (config: Omit<Mamba2Config, 'hiddenSize'>) => {
    const { inputs, attributes } = caseOf(2, 70, config, packed);
    const random = uniformSource(7);
    const row = { ...inputs[0]!, dtype: 'float16' as const, values: () => half(4 * random() - 2) };
    return { inputs: [row, ...inputs.slice(1)], attributes };
  };
  // Every tensor between the kernels has 11 bits.
  const halves = { forward: 2e-3, gradient: 5e-3, numeric: 1e-4 };
  it.skipIf(device.info.subgroupMatrix.length === 0).each([
    ['grouped heads', { headCount: 4, keyValueHeadCount: 2, headDim: 32 }],
    [
      'heads repeated before the convolution',
      { headCount: 4, keyValueHeadCount: 2, headDim: 32, repeatKvBeforeConv: true },
    ],
  ])('%s', async (_name, config) => checkOp(device, mixerOp, rows(config), halves));

  it.skipIf(device.info.subgroupMatrix.length === 0)('continues states', async () => {
    const { inputs, attributes } = caseOf(2, 66, { headCount: 2, keyValueHeadCount: 1, headDim: 32 }, undefined, true);
    const random = uniformSource(7);
    const row = { ...inputs[0]!, dtype: 'float16' as const, values: () => half(4 * random() - 2) };
    await checkOp(device, statefulMixerOp, { inputs: [row, ...inputs.slice(1)], attributes }, halves);
  });
});
