import { describe, it } from 'vitest';
import { defineOp, type Op } from '../../core/define-op.js';
import { type CaseInput, checkOp, testDevice } from '../../testing/index.js';
import { attentionOp, callOf } from './index.js';
import { backward, forward } from './launch.js';
import type { MatrixTile } from './matrix-tile.wgsl.js';
import type { AttentionAttributes } from './sizes.js';

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

/** The operation with small tiles, since an emulation of large ones takes minutes to compile. */
function withTiles(tile: MatrixTile): Op<AttentionAttributes> {
  const tiles = { forward: tile, query: tile, key: tile };
  return defineOp<AttentionAttributes>({
    ...attentionOp,
    forward: (call) => forward({ ...callOf(call), tiles }, call.outputs[0]!, call.outputs[1]!),
    backward: (call) =>
      backward({ ...callOf(call), tiles }, call.outputs[0]!, call.outputs[1]!, call.gradients[0]!, call.needs),
  });
}

/** A subgroup on its own; two that share rows, with two buffers; the same without fetching ahead, with one. */
const TILES: Record<'alone' | 'shared' | 'plain', MatrixTile> = {
  alone: { rows: 32, step: 16, subgroups: 1, scoreRows: 32, buffers: 1, prefetch: true },
  shared: { rows: 32, step: 32, subgroups: 2, scoreRows: 16, buffers: 2, prefetch: true },
  plain: { rows: 64, step: 32, subgroups: 4, scoreRows: 32, buffers: 1, prefetch: false },
};

describe.skipIf(device.info.subgroupMatrix.length === 0)('attention on emulated matrix units', () => {
  // Cases share head sizes and masks, and so compiled kernels: each takes seconds.
  it.each(
    Object.entries<[keyof typeof TILES, Case]>({
      'one token': ['shared', { queries: 1 }],
      'three tokens, two heads a key head': ['shared', { queries: 3, keyHeads: 1 }],
      '63 tokens': ['shared', { queries: 63, batch: 2 }],
      '130 tokens, four heads a key head': ['shared', { queries: 130, heads: 4, keyHeads: 1 }],
      '100 tokens, a subgroup on its own': ['alone', { queries: 100 }],
      'heads of 64': ['plain', { queries: 100, keySize: 64 }],
    }),
  )('agrees with its reference: %s', async (_, [tile, c]) =>
    checkOp(device, withTiles(TILES[tile]), opCase(c), TOLERANCE),
  );
});
