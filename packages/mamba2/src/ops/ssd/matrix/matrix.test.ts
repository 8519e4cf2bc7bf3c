import { checkOp, testDevice, uniformSource } from '@zebra/tensor/testing';
import { describe, it } from 'vitest';
import { stateSpaceScanOp } from '../index.js';

// Operands of every product are float16 (11 bits): inputs with their decays, masked scores, states at chunks' edges.
const TOLERANCE = { forward: 1e-3, gradient: 2e-3, numeric: 1e-5 };

interface Size {
  batch: number;
  length: number;
  heads: number;
  shared: number;
  headDim?: number;
  stateSize?: number;
  segments?: (index: number) => number;
  initial?: boolean;
  /** Added to dt: large values make decays vanish, very negative ones make them 1. */
  shift?: number;
}

/** To the nearest float16, so that host and device start from the same numbers. */
function half(value: number): number {
  const unit = 2 ** (Math.max(-14, Math.floor(Math.log2(Math.abs(value)))) - 10);
  return value === 0 ? 0 : Math.round(value / unit) * unit;
}

const normal = (_index: number, random: () => number) =>
  half(Math.sqrt(-2 * Math.log(1 - random())) * Math.cos(2 * Math.PI * random()));

function caseOf(s: Size) {
  const random = uniformSource(5);
  const [p, n] = [s.headDim ?? 32, s.stateSize ?? 32];
  const float16 = { dtype: 'float16' as const, values: normal };
  return {
    inputs: [
      { shape: [s.batch, s.length, s.shared, p], ...float16 },
      { shape: [s.batch, s.length, s.shared, n], ...float16 },
      { shape: [s.batch, s.length, s.heads, n], ...float16 },
      {
        shape: [s.batch, s.length, s.heads],
        dtype: 'float16' as const,
        values: () => half(2 * random() - 1 + (s.shift ?? 0)),
      },
      { shape: [s.heads], values: () => -2 - 3 * random() },
      { shape: [s.heads], values: () => Math.log(1 + 15 * random()) },
      { shape: [s.heads] },
      s.segments && { shape: [s.batch, s.length], dtype: 'int32' as const, values: s.segments },
      s.initial ? { shape: [s.batch, s.heads, p, n] } : undefined,
    ],
    attributes: {},
  };
}

describe('state-space scan on matrix units, emulated', async () => {
  const device = await testDevice('matrix');
  const cases: [string, Size][] = [
    ['one token', { batch: 1, length: 1, heads: 1, shared: 1 }],
    ['a chunk less one', { batch: 1, length: 63, heads: 2, shared: 2 }],
    ['shared heads', { batch: 2, length: 64, heads: 4, shared: 2 }],
    ['four chunks, the last one short', { batch: 1, length: 200, heads: 2, shared: 1 }],
    [
      'packed documents and padding',
      {
        batch: 2,
        length: 150,
        heads: 2,
        shared: 1,
        segments: (i) => [0, 0, 1, 1, 2, 2, 2, -1, 4, -1][Math.floor((i % 150) / 16)] ?? -1,
      },
    ],
    [
      'left padding, continued',
      {
        batch: 2,
        length: 80,
        heads: 1,
        shared: 1,
        initial: true,
        segments: (i) => (i % 80 < 7 + Math.floor(i / 80) * 62 ? -1 : 0),
      },
    ],
    ['continued', { batch: 1, length: 130, heads: 2, shared: 2, initial: true }],
    ['decays of nearly 1', { batch: 1, length: 130, heads: 2, shared: 1, shift: -6 }],
    ['vanishing decays', { batch: 1, length: 130, heads: 2, shared: 1, shift: 4 }],
  ];
  it.skipIf(device.info.subgroupMatrix.length === 0).each(cases)('%s', async (_name, size) =>
    checkOp(device, stateSpaceScanOp, caseOf(size), TOLERANCE),
  );
});
