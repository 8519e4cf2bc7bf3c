import { describe, expect, it } from 'vitest';
import { argmax, type SamplingOptions, samplersFor } from './sampler.js';

const LOGITS = Float32Array.of(1, 3, -2, 3, 0.5, Number.NEGATIVE_INFINITY, 2);
const DRAWS = 20_000;

function frequencies(options: SamplingOptions): number[] {
  const [sampler] = samplersFor(1, options);
  const counts = new Array<number>(LOGITS.length).fill(0);
  for (let i = 0; i < DRAWS; i++) counts[sampler!.sample(LOGITS)]!++;
  return counts.map((count) => count / DRAWS);
}

/** What the frequencies should be: softmax over the ids that are left, in float64. */
function expected(ids: readonly number[], temperature: number): number[] {
  const weights = [...LOGITS].map((logit, id) => (ids.includes(id) ? Math.exp(logit / temperature) : 0));
  const total = weights.reduce((sum, weight) => sum + weight, 0);
  return weights.map((weight) => weight / total);
}

describe('Sampler', () => {
  const all = [0, 1, 2, 3, 4, 6];
  it.each([
    [{ temperature: 1 }, all],
    [{ temperature: 2.5 }, all],
    [{ temperature: 1, topK: 3 }, [1, 3, 6]],
    [{ temperature: 1, topK: 100 }, all],
    // e³, e³, e² and e¹ are 0.386, 0.386, 0.142 and 0.052 of the whole.
    [{ temperature: 1, topP: 0.38 }, [1]],
    [{ temperature: 1, topP: 0.5 }, [1, 3]],
    [{ temperature: 1, topP: 0.9 }, [1, 3, 6]],
    // Among three, the third begins at 0.8446.
    [{ temperature: 1, topK: 3, topP: 0.84 }, [1, 3]],
    [{ temperature: 1, topK: 3, topP: 0.85 }, [1, 3, 6]],
    [{ temperature: 0 }, [1]],
    [{ temperature: 1, topK: 1 }, [1]],
  ])('%j draws from %j', (options, ids) => {
    const wanted = expected(ids, options.temperature || 1);
    // Five standard deviations of a frequency of ½ are 0.018.
    for (const [id, frequency] of frequencies({ ...options, seed: 3 }).entries()) {
      expect(Math.abs(frequency - wanted[id]!)).toBeLessThan(0.018);
      if (wanted[id] === 0) expect(frequency).toBe(0);
    }
  });

  it('pops by falling logit over a large vocabulary', () => {
    const logits = Float32Array.from({ length: 5000 }, (_, i) => Math.sin(i * 12.9898) * 10);
    const kept = [...logits.keys()].sort((a, b) => logits[b]! - logits[a]! || a - b).slice(0, 50);
    const [sampler] = samplersFor(1, { temperature: 1000, topK: 50 });
    const seen = new Set(Array.from({ length: 2000 }, () => sampler!.sample(logits)));
    expect([...seen].sort((a, b) => a - b)).toEqual(kept.sort((a, b) => a - b));
  });

  it('refuses logits that are none', () => {
    expect(argmax(Float32Array.of(1, 1))).toBe(0);
    expect(() => argmax(Float32Array.of(1, Number.NaN))).toThrow(/logit of token 1 is NaN/);
    expect(() => argmax(Float32Array.of(Number.POSITIVE_INFINITY, 1))).toThrow(/largest logit is Infinity/);
    expect(() => argmax(Float32Array.of(Number.NEGATIVE_INFINITY))).toThrow(/largest logit is -Infinity/);
  });
});
