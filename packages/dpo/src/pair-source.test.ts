import { describe, expect, it } from 'vitest';
import { pairBatches } from './pair-source.js';

const END = 1;

describe('pairBatches', () => {
  const pairs = Array.from({ length: 5 }, (_, i) => ({ prompt: [2], chosen: [10 + i], rejected: [20 + i, 30] }));
  const references = pairs.map((_, i) => ({ chosen: -i, rejected: -10 - i }));
  const options = { batchSize: 2, seed: 3, endToken: END };
  const drawn = (batch: Record<string, ArrayLike<number>>) => Array.from(batch.referenceChosen!, (value) => 0 - value);

  it('gives chosen rows first, then rejected ones, with the references of the same pairs', () => {
    const source = pairBatches(pairs, references, { ...options, shuffle: false });
    expect(source.length).toBe(3);
    const batch = source.next();
    expect([...(batch.ids as Int32Array)]).toEqual([2, 10, END, 2, 11, END, 2, 20, 30, 2, 21, 30]);
    expect([...(batch.referenceChosen as Float32Array)]).toEqual([-0, -1]);
    expect([...(batch.referenceRejected as Float32Array)]).toEqual([-10, -11]);
    expect(source.tokensIn!(batch)).toBe(2 * (2 + 3));
    for (const [name, { shape }] of Object.entries(source.specs)) {
      expect(batch[name]!.length).toBe(shape.reduce((product, size) => product * size, 1));
    }
  });

  it('goes through every pair once an epoch, each in another order, the same for the same seed', () => {
    const source = pairBatches(pairs, references, options);
    const epochs = Array.from({ length: 4 }, () => Array.from({ length: 5 }, () => drawn(source.next())).flat());
    const sequence = epochs.flat();
    const each = Array.from({ length: 8 }, (_, epoch) => sequence.slice(5 * epoch, 5 * epoch + 5));
    for (const epoch of each) expect([...epoch].sort()).toEqual([0, 1, 2, 3, 4]);
    expect(new Set(each.map(String)).size).toBeGreaterThan(4);
    const again = pairBatches(pairs, references, options);
    expect(Array.from({ length: 20 }, () => drawn(again.next())).flat()).toEqual(sequence);
  });

  it('goes on where its state was taken, and refuses the state of other data', () => {
    const source = pairBatches(pairs, references, options);
    for (let i = 0; i < 4; i++) source.next();
    const state = JSON.parse(JSON.stringify(source.state()));
    const rest = Array.from({ length: 6 }, () => drawn(source.next()));
    const other = pairBatches(pairs, references, options);
    other.next();
    other.restore(state);
    expect(Array.from({ length: 6 }, () => drawn(other.next()))).toEqual(rest);
    const changed = pairBatches([...pairs.slice(1), pairs[0]!], references, options);
    expect(() => changed.restore(state)).toThrow(/belongs to other data \(pairs\)/);
    expect(() => other.restore({ ...state, taken: -1 })).toThrow(/\(taken\)/);
    expect(() => other.restore(null)).toThrow(/belongs to other data/);
  });

  it('refuses references of another number and impossible options', () => {
    expect(() => pairBatches(pairs, [], options)).toThrow(/5 pairs came with 0 references/);
    expect(() => pairBatches([], [], options)).toThrow(/no pairs given/);
    expect(() => pairBatches(pairs, references, { ...options, batchSize: 0 })).toThrow(/batchSize must be a positive/);
    expect(() => pairBatches(pairs, references, { ...options, seed: 0.5 })).toThrow(/seed must be an integer/);
  });
});
