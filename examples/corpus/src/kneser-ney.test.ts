import { describe, expect, it } from 'vitest';
import { seededRandom } from './documents.js';
import { estimateDiscounts, type NgramModel, trainKneserNey } from './kneser-ney.js';

const BOS = 0;
const doc = (...ids: number[]) => Uint16Array.from(ids);
const sum = (model: NgramModel, before: number[]) => {
  let total = 0;
  for (let next = 0; next < model.vocabularySize; next++) total += model.probability(before, next);
  return total;
};

describe('a corpus of two documents, by hand', () => {
  // 0 BOS, 1 EOS, 2 a, 3 b. No counts of counts reach four, so the discounts are 0.5, 1, 1.5.
  const documents = [doc(0, 2, 3, 1), doc(0, 2, 2, 1)];
  it('bigrams', () => {
    const model = trainKneserNey(documents, { order: 2, vocabularySize: 4, bos: BOS });
    // Left neighbours: EOS {a, b}, a {BOS, a}, b {a}: 5 in all; 2.5 of them go to the uniform 1/4.
    expect(model.probability([1], 2)).toBeCloseTo((2 - 1) / 5 + 0.5 / 4, 12);
    expect(model.probability([1], 3)).toBeCloseTo((1 - 0.5) / 5 + 0.5 / 4, 12);
    // After a: b, a and EOS once each; half goes to the order below.
    expect(model.probability([2], 3)).toBeCloseTo(0.5 / 3 + 0.5 * 0.225, 12);
    // After BOS: a twice.
    expect(model.probability([0], 2)).toBeCloseTo(1 / 2 + 0.5 * 0.325, 12);
    const nats = -Math.log(0.6625) - Math.log(0.5 / 3 + 0.5 * 0.225) - Math.log(0.5 + 0.5 * 0.325);
    expect(model.documentNats(doc(0, 2, 3, 1))).toBeCloseTo(nats, 12);
  });
  it('unigrams use raw counts', () => {
    const model = trainKneserNey(documents, { order: 1, vocabularySize: 4, bos: BOS });
    // a 3, EOS 2, b 1 of 6; 1.5 + 1 + 0.5 go to the uniform.
    expect(model.probability([0], 2)).toBeCloseTo((3 - 1.5) / 6 + 0.5 / 4, 12);
  });
});

/** The definition with maps and sets, slow and plain. */
function reference(documents: Uint16Array[], size: number): (u: number, v: number, w: number) => number {
  const grams = (n: number) =>
    documents.flatMap((ids) => Array.from(ids, (_, i) => [...ids.slice(i, i + n)]).filter((gram) => gram.length === n));
  const tally = (list: number[][]) => {
    const counts = new Map<string, number>();
    for (const gram of list) counts.set(gram.join(), (counts.get(gram.join()) ?? 0) + 1);
    return counts;
  };
  const distinct = (list: number[][]) =>
    [...new Set(list.map((gram) => gram.join()))].map((key) => key.split(',').map(Number));
  const c3 = tally(grams(3));
  const c2 = tally([...distinct(grams(3)).map((gram) => gram.slice(1)), ...grams(2).filter(([v]) => v === BOS)]);
  const c1 = tally(distinct(grams(2)).map((gram) => gram.slice(1)));
  const level = (counts: Map<string, number>, context: string, w: number, below: number) => {
    const values = [...counts.values()];
    const n = [1, 2, 3, 4].map((k) => values.filter((value) => value === k).length) as [number, number, number, number];
    const [d1, d2, d3] = estimateDiscounts(n);
    const discount = (count: number) => (count === 0 ? 0 : count === 1 ? d1 : count === 2 ? d2 : d3);
    const after = [...counts]
      .filter(([key]) => key.slice(0, key.lastIndexOf(',') + 1) === context)
      .map(([, value]) => value);
    const total = after.reduce((a, b) => a + b, 0);
    if (total === 0) return below;
    const count = counts.get(context + w) ?? 0;
    return (count - discount(count) + after.map(discount).reduce((a, b) => a + b, 0) * below) / total;
  };
  return (u, v, w) => level(c3, `${u},${v},`, w, level(c2, `${v},`, w, level(c1, '', w, 1 / size)));
}

describe('random text', () => {
  const size = 12;
  const random = seededRandom(7);
  const documents = Array.from({ length: 40 }, () =>
    doc(BOS, ...Array.from({ length: 30 }, () => 2 + Math.floor(9 * random() ** 2)), 1),
  );

  it('sums to 1 after seen and unseen contexts, in every order', () => {
    for (const order of [1, 2, 3] as const) {
      const model = trainKneserNey(documents, { order, vocabularySize: size, bos: BOS });
      for (let u = 0; u < size; u++) for (let v = 0; v < size; v++) expect(sum(model, [u, v])).toBeCloseTo(1, 12);
      expect(sum(model, [BOS])).toBeCloseTo(1, 12);
      expect(model.probability([11, 11], 11)).toBeGreaterThan(0);
    }
  });
  it('agrees with the plain definition, with estimated discounts', () => {
    const model = trainKneserNey(documents, { order: 3, vocabularySize: size, bos: BOS });
    expect(model.discounts[2]).not.toEqual([0.5, 1, 1.5]);
    const expected = reference(documents, size);
    for (const [u, v, w] of [
      [0, 2, 2],
      [2, 2, 3],
      [2, 3, 10],
      [10, 10, 10],
      [11, 2, 4],
      [5, 1, 2],
    ] as const)
      expect(model.probability([u, v], w)).toBeCloseTo(expected(u, v, w), 12);
  });
});

it('discounts follow Chen and Goodman', () => {
  const y = 100 / (100 + 2 * 40);
  const [d1, d2, d3] = estimateDiscounts([100, 40, 20, 12]);
  expect(d1).toBeCloseTo(1 - 2 * y * 0.4, 12);
  expect(d2).toBeCloseTo(2 - 3 * y * 0.5, 12);
  expect(d3).toBeCloseTo(3 - 4 * y * 0.6, 12);
});

it('refuses ids outside the vocabulary and BOS inside a document', () => {
  expect(() => trainKneserNey([doc(0, 9)], { order: 2, vocabularySize: 4, bos: 0 })).toThrow(/id 9 is outside/);
  expect(() => trainKneserNey([doc(0, 2, 0)], { order: 2, vocabularySize: 4, bos: 0 })).toThrow(/BOS/);
});
