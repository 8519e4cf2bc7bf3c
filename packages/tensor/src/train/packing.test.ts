import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { evaluationBatches } from './evaluation-batches.js';
import type { PackedBatch } from './packed-rows.js';
import { type PackOptions, packDocuments } from './packing.js';

/** Documents whose tokens are all different, so that a token tells its document and place. */
const corpora = fc.array(fc.integer({ min: 1, max: 9 }), { minLength: 1, maxLength: 8 }).chain((lengths) => {
  const sizes = lengths.some((n) => n > 1) ? lengths : [...lengths, 2];
  let next = 0;
  const documents = sizes.map((n) => Array.from({ length: n }, () => next++));
  return fc.constantFrom(
    documents,
    documents.map((document) => Uint16Array.from(document)),
    documents.map((document) => Int32Array.from(document)),
  );
});
const sizes = fc.record({
  batchSize: fc.integer({ min: 1, max: 3 }),
  length: fc.integer({ min: 1, max: 12 }),
  seed: fc.integer(),
  shuffle: fc.boolean(),
});
type Documents = readonly ArrayLike<number>[];

/** Place of each token: its document and index there. */
function placesOf(documents: Documents): [document: number, index: number][] {
  const places: [number, number][] = [];
  documents.forEach((document, d) => {
    for (let i = 0; i < document.length; i++) places[document[i]!] = [d, i];
  });
  return places;
}

/** Batches until at least `tokens` came. */
function draw(source: { next(): PackedBatch }, tokens: number): PackedBatch[] {
  const batches: PackedBatch[] = [];
  for (let seen = 0; seen < tokens; seen += batches.at(-1)!.ids.length) batches.push(source.next());
  return batches;
}

const joined = (batches: Iterable<PackedBatch>, name: keyof PackedBatch) =>
  [...batches].flatMap((batch) => [...batch[name]!]);

function checkResetRow(documents: Documents, batch: PackedBatch, length: number): void {
  const places = placesOf(documents);
  for (let k = 0; k < batch.ids.length; k++) {
    if (batch.segments[k] === -1) {
      expect([batch.ids[k], batch.targets[k], batch.positions[k]]).toEqual([0, -100, 0]);
      continue;
    }
    const [d, i] = places[batch.ids[k]!]!;
    expect(batch.targets[k]).toBe(documents[d]![i + 1] ?? -100);
    const continues = k % length > 0 && i > 0;
    expect(batch.positions[k]).toBe(continues ? batch.positions[k - 1]! + 1 : 0);
    expect(batch.segments[k]).toBe(k % length === 0 ? 0 : batch.segments[k - 1]! + (continues ? 0 : 1));
    if (continues) expect(batch.ids[k - 1]).toBe(documents[d]![i - 1]);
  }
}

describe('packDocuments', () => {
  it('with boundaries that reset, gives every token once an epoch, with its own successor, position and segment', () => {
    fc.assert(
      fc.property(corpora, sizes, (documents, options) => {
        const source = packDocuments(documents, { ...options, boundaries: 'reset' });
        const epoch = source.tokensPerEpoch;
        const batches = draw(source, 3 * epoch);
        const ids = joined(batches, 'ids');
        for (let e = 0; e < 3; e++) {
          const sorted = ids.slice(e * epoch, (e + 1) * epoch).sort((a, b) => a - b);
          expect(sorted).toEqual(Array.from({ length: epoch }, (_, i) => i));
        }
        for (const batch of batches) {
          checkResetRow(documents, batch, options.length);
          expect(source.tokensIn!(batch)).toBe([...batch.targets].filter((t) => t !== -100).length);
        }
      }),
    );
  });

  it('with boundaries that run on, predicts the next token of the stream everywhere', () => {
    fc.assert(
      fc.property(corpora, sizes, (documents, options) => {
        const source = packDocuments(documents, { ...options, boundaries: 'run-on' });
        const batches = draw(source, 2 * source.tokensPerEpoch);
        const ids = [...joined(batches, 'ids'), source.next().ids[0]!];
        expect(joined(batches, 'targets')).toEqual(ids.slice(1));
        expect(joined(batches, 'positions')).toEqual(ids.slice(1).map((_, k) => k % options.length));
        expect(new Set(joined(batches, 'segments'))).toEqual(new Set([0]));
      }),
    );
  });

  it('goes on from a state in the middle, through JSON, with the same batches', () => {
    fc.assert(
      fc.property(
        corpora,
        sizes,
        fc.constantFrom('reset' as const, 'run-on' as const),
        fc.nat(12),
        (documents, sizesGiven, boundaries, skip) => {
          const options: PackOptions = { ...sizesGiven, boundaries };
          const source = packDocuments(documents, options);
          for (let i = 0; i < skip; i++) source.next();
          const state = JSON.parse(JSON.stringify(source.state()));
          const other = packDocuments(documents, options);
          for (let i = 0; i < 3; i++) other.next();
          other.restore(state);
          for (let i = 0; i < 8; i++) expect(other.next()).toEqual(source.next());
          expect(other.state()).toEqual(source.state());
        },
      ),
    );
  });

  it('orders anew by seed and epoch, or keeps the order given', () => {
    const documents = Array.from({ length: 20 }, (_, d) => [2 * d, 2 * d + 1]);
    const order = (seed: number, shuffle = true) => {
      const source = packDocuments(documents, { batchSize: 1, length: 40, seed, boundaries: 'reset', shuffle });
      return [source.next(), source.next()].map((batch) => batch.ids.join());
    };
    const given = documents.flat().join();
    expect(order(1, false)).toEqual([given, given]);
    expect(order(1)).toEqual(order(1));
    expect(new Set([...order(1), ...order(2), given]).size).toBe(5);
  });

  it('refuses what cannot be packed', () => {
    const options: PackOptions = { batchSize: 1, length: 4, seed: 1, boundaries: 'reset' };
    expect(() => packDocuments([], options)).toThrow(/no documents/);
    expect(() => packDocuments([[1, 2], []], options)).toThrow(/document 1 is empty/);
    expect(() => packDocuments([[1, -2]], options)).toThrow(/has -2 at position 1/);
    expect(() => packDocuments([[1, 0.5]], options)).toThrow(/has 0.5 at position 1/);
    expect(() => packDocuments([[1], [2]], options)).toThrow(/none to predict/);
    expect(() => packDocuments([[1, 2]], { ...options, length: 0 })).toThrow(/length must be an integer of at least 1/);
    expect(() => packDocuments([[1, 2]], { ...options, batchSize: 1.5 })).toThrow(/batchSize must be an integer/);
    expect(() => packDocuments([[1, 2]], { ...options, seed: Number.NaN })).toThrow(/seed/);
    expect(() => packDocuments([[1, 2]], { ...options, boundaries: 'cut' as never })).toThrow(/'reset' or 'run-on'/);
  });

  it('refuses the state of other data', () => {
    const options: PackOptions = { batchSize: 1, length: 4, seed: 1, boundaries: 'reset' };
    const { state } = packDocuments([[1, 2, 3]], options);
    expect(() => packDocuments([[1, 2, 4]], options).restore(state())).toThrow(/other data: corpus was/);
    expect(() => packDocuments([[1, 2], [3]], options).restore(state())).toThrow(/other data: corpus was/);
    expect(() => packDocuments([[1, 2, 3]], { ...options, seed: 2 }).restore(state())).toThrow(/seed was 1, is 2/);
    expect(() => packDocuments([[1, 2, 3]], options).restore(null)).toThrow(/other data/);
    const astray = { ...(state() as Record<string, number>), offset: 3 };
    expect(() => packDocuments([[1, 2, 3]], options).restore(astray)).toThrow(/no place in the corpus/);
  });
});

describe('evaluationBatches', () => {
  it('scores every token but the first of each document exactly once, and pads the last batch', () => {
    fc.assert(
      fc.property(corpora, sizes, (documents, { batchSize, length }) => {
        const batches = evaluationBatches(documents, { batchSize, length });
        const expected = [...documents].flatMap((document) => [...document].slice(1));
        for (let pass = 0; pass < 2; pass++) {
          const all = [...batches];
          expect(all.length).toBe(batches.count);
          for (const batch of all) checkResetRow(documents, batch, length);
          const scored = joined(all, 'targets').filter((target) => target !== -100);
          expect(scored).toEqual(expected);
          expect(scored.length).toBe(batches.predictions);
          expect(joined(all, 'segments').filter((s) => s >= 0).length).toBe(expected.length + documents.length);
        }
      }),
    );
  });

  it('refuses what cannot be evaluated', () => {
    expect(() => evaluationBatches([], { batchSize: 1, length: 1 })).toThrow(/no documents/);
    expect(() => evaluationBatches([[1, 2]], { batchSize: 1, length: 0 })).toThrow(/length/);
  });
});
