import { describe, expect, it } from 'vitest';
import { tensor } from '../../core/create.js';
import { valueAndGradients } from '../../core/gradients.js';
import { scope } from '../../core/scope.js';
import { type CaseInput, checkOp, testDevice, type TestVariant } from '../../testing/index.js';
import { sum } from '../reduce/index.js';
import { attention, attentionOp } from './index.js';

// float32 scores of size ~10, exponentiated: 1e-6 of relative error each, averaged over the keys; the gradient
// subtracts two sums of like size.
const TOLERANCE = { forward: 3e-6, gradient: 1e-5, numeric: 1e-5 };

interface Case {
  readonly batch?: number;
  readonly queries: number;
  readonly keys?: number;
  readonly heads?: number;
  readonly keyHeads?: number;
  readonly keySize?: number;
  readonly valueSize?: number;
  readonly width?: number;
  readonly magnitude?: number;
  readonly segments?: (index: number, random: () => number) => number;
  readonly keySegments?: (index: number, random: () => number) => number;
  readonly keyLength?: number;
}

function opCase(c: Case) {
  const { batch = 2, queries, keys = queries, heads = 2, keyHeads = heads, keySize = 16, valueSize = keySize, magnitude = 1 } = c;
  const width = c.width ?? valueSize;
  const normal = (_: number, random: () => number) =>
    magnitude * Math.sqrt(-2 * Math.log(1 - random())) * Math.cos(2 * Math.PI * random());
  const int = (shape: number[], values: CaseInput['values']): CaseInput => ({ shape, dtype: 'int32', values: values! });
  return {
    inputs: [
      { shape: [batch, queries, heads, keySize], values: normal },
      { shape: [batch, keys, keyHeads, keySize], values: normal },
      { shape: [batch, keys, keyHeads, width] },
      c.segments && int([batch, queries], c.segments),
      c.keySegments && int([batch, keys], c.keySegments),
      c.keyLength === undefined ? undefined : int([1], () => c.keyLength!),
    ],
    attributes: { scale: keySize ** -0.5, ...(width !== valueSize && { valueSize }) },
  };
}

/** Documents of 11 tokens, the last 9 tokens of each row padding. */
const documents = (length: number) => (i: number) => (i % length >= length - 9 ? -1 : Math.floor((i % length) / 11));
/** Left padding of 5 tokens in every row but the first. */
const leftPadded = (length: number) => (i: number) => (i >= length && i % length < 5 ? -1 : 0);

const cases = (list: Record<string, Case>) => Object.entries(list);
const run = async (variant: TestVariant, c: Case, tolerance = TOLERANCE) =>
  checkOp(await testDevice(variant), attentionOp, opCase(c), tolerance);

describe('attention', () => {
  it.each(
    cases({
      'one token': { queries: 1 },
      'three tokens': { queries: 3, heads: 4, keyHeads: 2 },
      '63 tokens, four heads a key head': { queries: 63, heads: 4, keyHeads: 1 },
      '130 tokens, wider keys than values': { queries: 130, batch: 1, heads: 4, keyHeads: 2, keySize: 24, valueSize: 16 },
      '500 tokens': { queries: 500, batch: 1, heads: 1, keySize: 4 },
      'odd head sizes': { queries: 63, batch: 1, heads: 3, keySize: 5, valueSize: 12 },
      'an odd value size': { queries: 20, heads: 2, keySize: 12, valueSize: 5 },
      'heads of 64': { queries: 20, batch: 1, heads: 2, keySize: 64 },
      'three heads a key head': { queries: 20, heads: 6, keyHeads: 2, keySize: 8 },
      'fewer queries than keys': { queries: 13, keys: 40, heads: 4, keyHeads: 2 },
      'packed documents with padding': { queries: 63, heads: 4, keyHeads: 2, segments: documents(63) },
      'segments that are not contiguous': { queries: 40, segments: (_, random) => Math.floor(3 * random()) },
      'left padding with a cache': {
        queries: 3,
        keys: 20,
        segments: () => 0,
        keySegments: leftPadded(20),
        keyLength: 17,
      },
      'a part of the cache, one query': { queries: 1, keys: 70, keyLength: 37, heads: 4, keyHeads: 2 },
      'a part of the cache, three queries': { queries: 3, keys: 70, keyLength: 37, heads: 4, keyHeads: 1 },
      'a part of the cache, many queries': { queries: 20, keys: 70, keyLength: 37 },
      'values inside wider rows': { queries: 9, heads: 4, keyHeads: 1, keySize: 12, valueSize: 8, width: 12 },
      'values inside wider rows, one query': { queries: 1, keys: 33, heads: 4, keyHeads: 1, keySize: 12, valueSize: 8, width: 12 },
    }),
  )('agrees with its reference: %s', async (_, c) => run('native', c));

  it.each(
    cases({
      'one token': { queries: 1 },
      '63 tokens, documents, four heads a key head': { queries: 63, heads: 4, keyHeads: 1, segments: documents(63) },
      '130 tokens, wider keys than values': { queries: 130, batch: 1, keySize: 24, valueSize: 16 },
      'odd head sizes': { queries: 40, batch: 1, heads: 2, keyHeads: 1, keySize: 5, valueSize: 12 },
      'heads of 128': { queries: 35, batch: 1, heads: 1, keySize: 128 },
      'large heads': { queries: 5, batch: 1, heads: 1, keySize: 132 },
      'a part of the cache, many queries': { queries: 20, keys: 70, keyLength: 37 },
      'left padding with a cache, three queries': {
        queries: 3,
        keys: 150,
        heads: 4,
        keyHeads: 1,
        segments: () => 0,
        keySegments: leftPadded(150),
        keyLength: 139,
      },
      'a latent cache as keys and values': { queries: 1, keys: 150, batch: 1, heads: 2, keyHeads: 1, keySize: 576, valueSize: 512, width: 576 },
      'odd head sizes, one query': { queries: 1, keys: 260, heads: 3, keySize: 5, valueSize: 7 },
    }),
  )('agrees with its reference in its variant for hardware: %s', async (_, c) => run('hardware', c));
});
