import { describe, expect, it } from 'vitest';
import { tensor } from '../../core/create.js';
import { scope } from '../../core/scope.js';
import { type CaseInput, checkOp, relativeError, testDevice, uniformSource } from '../../testing/index.js';
import { attentionOp } from './index.js';

// Emulated matrix units (see MatrixUnits): the kernels' own tiling, staging, masks and barriers, computed in plain WGSL.
const device = await testDevice('matrix');

/**
 * Inputs are exact in float16. Weights and the gradients of scores are rounded to it (2⁻¹², random) before they are
 * summed, outputs and y in the gradient (2⁻¹²) too, and so is the upstream gradient that the device gets.
 */
const TOLERANCE = { forward: 6e-4, gradient: 2e-3, numeric: 1e-5 };

interface Case {
  readonly batch?: number;
  readonly queries: number;
  readonly keys?: number;
  readonly heads?: number;
  readonly keyHeads?: number;
  readonly keySize?: number;
  readonly valueSize?: number;
  readonly magnitude?: number;
  readonly segments?: (index: number, random: () => number) => number;
  readonly keySegments?: (index: number, random: () => number) => number;
  readonly keyLength?: number;
}

/** Normal values on a grid of 1/256, which float16 holds exactly up to 8. */
const normal = (magnitude: number) => (_: number, random: () => number) => {
  const value = Math.sqrt(-2 * Math.log(1 - random())) * Math.cos(2 * Math.PI * random());
  return magnitude * (Math.round(256 * Math.max(-4, Math.min(4, value))) / 256);
};

function opCase(c: Case) {
  const { batch = 1, queries, keys = queries, heads = 2, keyHeads = heads, keySize = 32, magnitude = 1 } = c;
  const { valueSize = keySize } = c;
  const half = (shape: number[], values: CaseInput['values']) => ({
    shape,
    dtype: 'float16' as const,
    values: values!,
  });
  const int = (shape: number[], values: CaseInput['values']) => ({ shape, dtype: 'int32' as const, values: values! });
  return {
    inputs: [
      half([batch, queries, heads, keySize], normal(magnitude)),
      half([batch, keys, keyHeads, keySize], normal(magnitude)),
      half([batch, keys, keyHeads, valueSize], normal(1)),
      c.segments && int([batch, queries], c.segments),
      c.keySegments && int([batch, keys], c.keySegments),
      c.keyLength === undefined ? undefined : int([1], () => c.keyLength!),
    ],
    attributes: { scale: keySize ** -0.5 },
  };
}

/** Documents of 21 tokens, the last 9 tokens of each row padding. */
const documents = (length: number) => (i: number) => (i % length >= length - 9 ? -1 : Math.floor((i % length) / 21));

describe.skipIf(device.info.subgroupMatrix.length === 0)('attention on emulated matrix units', () => {
  // Cases share head sizes and masks, and so compiled kernels: each takes seconds.
  it.each(
    Object.entries<Case>({
      'one token': { queries: 1 },
      'three tokens, two heads a key head': { queries: 3, keyHeads: 1 },
      '64 tokens': { queries: 64, batch: 2 },
      '130 tokens, four heads a key head': { queries: 130, heads: 4, keyHeads: 1 },
      'heads of 64': { queries: 100, keySize: 64 },
      'heads of 128': { queries: 70, keySize: 128 },
      'keys wider than values': { queries: 63, keySize: 64, valueSize: 32 },
    }),
  )('agrees with its reference: %s', async (_, c) => checkOp(device, attentionOp, opCase(c), TOLERANCE));
});
