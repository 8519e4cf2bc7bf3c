import { describe, expect, it } from 'vitest';
import { tensor } from '../../core/create.js';
import { type HostTensor, hostTensor } from '../../core/host.js';
import { scope } from '../../core/scope.js';
import type { Tensor } from '../../core/tensor.js';
import { type CaseInput, checkOp, relativeError, testDevice, uniformSource } from '../../testing/index.js';
import { attentionOp, attentionWithTiles } from './index.js';
import type { MatrixTile } from './matrix-tile.wgsl.js';
import { type AttentionCase, maskInputs } from './test-case.js';

// Emulated matrix units (see MatrixUnits): the kernels' own tiling, staging, masks and barriers, computed in plain WGSL.
const device = await testDevice('matrix');

/**
 * Inputs are exact in float16. Weights and the gradients of scores are rounded to it (2⁻¹², random) before they are
 * summed, outputs and y in the gradient (2⁻¹²) too, and so is the upstream gradient that the device gets.
 */
const TOLERANCE = { forward: 6e-4, gradient: 2e-3, numeric: 1e-5 };

/** Normal values on a grid of 1/256, which float16 holds exactly up to 8. */
const normal = (magnitude: number) => (_: number, random: () => number) => {
  const value = Math.sqrt(-2 * Math.log(1 - random())) * Math.cos(2 * Math.PI * random());
  return magnitude * (Math.round(256 * Math.max(-4, Math.min(4, value))) / 256);
};

function opCase(c: AttentionCase) {
  const { batch = 1, queries, keys = queries, heads = 2, keyHeads = heads, keySize = 32, magnitude = 1 } = c;
  const { valueSize = keySize } = c;
  const half = (shape: number[], values: CaseInput['values']) => ({
    shape,
    dtype: 'float16' as const,
    values: values!,
  });
  return {
    inputs: [
      half([batch, queries, heads, keySize], normal(magnitude)),
      half([batch, keys, keyHeads, keySize], normal(magnitude)),
      half([batch, keys, keyHeads, valueSize], normal(1)),
      ...maskInputs(c, batch, keys),
    ],
    attributes: { scale: keySize ** -0.5 },
  };
}

/** Documents of 21 tokens, the last 9 tokens of each row padding. */
const documents = (length: number) => (i: number) => (i % length >= length - 9 ? -1 : Math.floor((i % length) / 21));

/** Small tiles, since an emulation of large ones takes long to compile: a subgroup on its own; two that share
 * rows, with two buffers; two of rows of their own, without fetching ahead. */
const TILES: Record<'alone' | 'shared' | 'plain', MatrixTile> = {
  alone: { rows: 32, step: 16, subgroups: 1, scoreRows: 32, buffers: 1, prefetch: true },
  shared: { rows: 32, step: 32, subgroups: 2, scoreRows: 16, buffers: 2, prefetch: true },
  plain: { rows: 64, step: 16, subgroups: 2, scoreRows: 32, buffers: 1, prefetch: false },
};

/** Keys that the first rows of a batch do not see: left padding of 5 tokens in every row but the first. */
const leftPadded = (length: number) => (i: number) => (i >= length && i % length < 5 ? -1 : 0);

const everywhere = (tile: MatrixTile) => attentionWithTiles({ forward: tile, query: tile, key: tile });

describe.skipIf(device.info.subgroupMatrix.length === 0)('attention on emulated matrix units', () => {
  // Cases share tiles, head sizes and masks, and so compiled kernels: each takes seconds.
  it.each(
    Object.entries<[keyof typeof TILES, AttentionCase]>({
      'one token': ['shared', { queries: 1 }],
      'three tokens, two heads a key head': ['shared', { queries: 3, keyHeads: 1 }],
      '63 tokens': ['shared', { queries: 63 }],
      '130 tokens': ['shared', { queries: 130, heads: 1 }],
      '50 tokens, a subgroup on its own': ['alone', { queries: 50, heads: 1, keySize: 16 }],
      'heads of 64, keys wider than values': ['plain', { queries: 70, heads: 1, keySize: 64, valueSize: 32 }],
      'packed documents with padding': ['shared', { queries: 70, heads: 1, segments: documents(70) }],
      'segments that are not contiguous': [
        'shared',
        { queries: 40, segments: (_, random) => Math.floor(3 * random()) },
      ],
      'left padding with a cache, a part of it': [
        'shared',
        { batch: 2, heads: 1, queries: 40, keys: 75, segments: () => 0, keySegments: leftPadded(75), keyLength: 70 },
      ],
      'a part of the cache': ['shared', { queries: 33, keys: 90, keyHeads: 1, keyLength: 77 }],
    }),
  )('agrees with its reference: %s', async (_, [tile, c]) =>
    checkOp(device, everywhere(TILES[tile]), opCase(c), TOLERANCE),
  );

  // The tiles that are chosen for little workgroup memory, and heads of two query heads a key head.
  it.each([64, 128])('agrees with its reference: heads of %i, chosen tiles', async (keySize) =>
    checkOp(device, attentionOp, opCase({ queries: 70, keyHeads: 1, keySize }), TOLERANCE),
  );

  const host = (shape: number[], magnitude: number, random: () => number): HostTensor => {
    const made = hostTensor(shape);
    return { shape, data: made.data.map((_, i) => normal(magnitude)(i, random)) };
  };

  // Scores in steps of 1/16 up to 2²⁰ are exact in float32, times the scale they are off by 6e-4: so are weights.
  it.each([8, 64])('is stable with large scores: the reference of a row is raised (×%i)', async (magnitude) => {
    const random = uniformSource(7);
    const inputs = [magnitude, magnitude, 1].map((factor) => host([1, 100, 1, 32], factor, random));
    const want = attentionOp.reference.forward(inputs, { scale: 32 ** -0.5 });
    await scopeAsync(async (own) => {
      const tensors = inputs.map(({ data, shape }) => own(tensor(device, data, shape, { dtype: 'float16' })));
      const got = everywhere(TILES.shared).apply([...tensors, undefined, undefined, undefined], { scale: 32 ** -0.5 });
      for (const [i, output] of got.entries()) {
        expect(relativeError(await own(output).read(), want[i]!.data)).toBeLessThan(2e-3);
      }
    });
  });

  // Upstream gradients of a loss scaled by 2¹³ reach 32768: nothing on the way to dq, dk and dv may overflow before they do.
  it('keeps gradients of a scaled loss in range', async () => {
    const random = uniformSource(9);
    const inputs = [1, 1, 1].map((factor) => host([1, 63, 1, 32], factor, random));
    const g = host([1, 63, 1, 32], 8192, random);
    const attributes = { scale: 32 ** -0.5 };
    const want = attentionOp.reference.backward!(inputs, attributes, [g, undefined]);
    const op = everywhere(TILES.shared);
    await scopeAsync(async (own) => {
      const half = ({ data, shape }: HostTensor) => own(tensor(device, data, shape, { dtype: 'float16' }));
      const given = [...inputs.map(half), undefined, undefined, undefined];
      const outputs = op.apply(given, attributes).map(own);
      const needs = [true, true, true, false, false, false];
      const gradients = [half(g), undefined];
      const got = scope(() => [...op.backward!({ device, inputs: given, outputs, gradients, attributes, needs })]);
      for (const i of [0, 1, 2]) {
        expect(relativeError(await own(got[i]!).read(), want[i]!.data)).toBeLessThan(TOLERANCE.gradient);
      }
    });
  });
});

/** Disposes of what was owned, and holds that nothing else stays. */
async function scopeAsync(body: (own: <T extends Tensor>(tensor: T) => T) => Promise<void>): Promise<void> {
  const before = device.statistics().liveBuffers;
  const owned: Tensor[] = [];
  await body((made) => {
    owned.push(made);
    return made;
  });
  for (const made of owned) made.dispose();
  expect(device.statistics().liveBuffers).toBe(before);
}
