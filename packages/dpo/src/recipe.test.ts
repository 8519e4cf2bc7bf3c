import { tensor } from '@zebra/tensor';
import { testDevice } from '@zebra/tensor/testing';
import type { StepMetrics } from '@zebra/tensor/train';
import { describe, expect, it } from 'vitest';
import { preferenceAccuracy, scorePairs } from './log-probabilities.js';
import { encodePair } from './pairs.js';
import { preferenceLoss, preferenceMargins } from './preference-loss.js';
import { tunePreferences } from './recipe.js';
import { TinyModel } from './testing.js';

const END = 1;
const VOCABULARY = 17;
const device = await testDevice();

/** Pairs whose chosen responses hold even tokens and whose rejected ones hold odd ones. */
const pairs = Array.from({ length: 10 }, (_, i) => ({
  prompt: Array.from({ length: 1 + (i % 3) }, (_, t) => 2 + ((i + t) % 15)),
  chosen: Array.from({ length: 1 + (i % 4) }, (_, t) => 2 + 2 * ((i + t) % 7)),
  rejected: Array.from({ length: 2 + (i % 2) }, (_, t) => 3 + 2 * ((i + t) % 7)),
}));
const limits = { beginToken: 0, endToken: END };

async function all(run: AsyncGenerator<StepMetrics, unknown, void>): Promise<StepMetrics[]> {
  const steps: StepMetrics[] = [];
  for await (const step of run) steps.push(step);
  return steps;
}

describe('scorePairs', () => {
  it('sums the log-probabilities of each response and its end, whatever the batch', async () => {
    const model = new TinyModel(device, VOCABULARY, 6, 1);
    const seen: number[] = [];
    const scores = await scorePairs(model, pairs, { ...limits, batchSize: 3, onProgress: (done) => seen.push(done) });
    expect(seen).toEqual([3, 6, 9, 10]);
    for (const [i, pair] of pairs.entries()) {
      const encoded = encodePair(pair, limits);
      for (const side of ['chosen', 'rejected'] as const) {
        const wanted = await model.logProbability(encoded[side].ids, encoded[side].targets);
        // At most five float32 terms of some nats each.
        expect(Math.abs(scores[i]![side] - wanted)).toBeLessThan(1e-5 * Math.abs(wanted));
      }
    }
    expect(await scorePairs(model, pairs, { ...limits, batchSize: 10 })).toHaveLength(10);
    await expect(scorePairs(model, [], limits)).rejects.toThrow(/no pairs/);
    model.dispose();
  });

  it('counts as accurate what has the chosen response above', () => {
    const scores = [
      { chosen: -1, rejected: -2 },
      { chosen: -3, rejected: -2 },
      { chosen: -2, rejected: -2 },
      { chosen: -4, rejected: -9 },
    ];
    expect(preferenceAccuracy(scores)).toBe(0.5);
  });
});

describe('preferenceLoss', () => {
  it('is the mean of −log σ(β·margin), also where σ underflows', async () => {
    const values = {
      policyChosen: [-10, -20, -5, 0],
      policyRejected: [-12, -15, -5, -30000],
      referenceChosen: [-11, -19, -5, -30000],
      referenceRejected: [-11, -18, -5, 0],
    };
    const logs = Object.fromEntries(
      Object.entries(values).map(([name, data]) => [name, tensor(device, data)]),
    ) as unknown as Parameters<typeof preferenceLoss>[0];
    const margins = [2, -4, 0, 60000];
    using gap = preferenceMargins(logs);
    expect([...(await gap.read())]).toEqual(margins);
    for (const beta of [0.01, 0.5]) {
      using loss = preferenceLoss(logs, { beta });
      const wanted = margins.reduce((sum, margin) => sum + Math.log1p(Math.exp(-beta * margin)), 0) / 4;
      expect(Math.abs((await loss.item()) - wanted)).toBeLessThan(1e-6);
    }
    for (const one of Object.values(logs)) one.dispose();
  });
});

describe('tunePreferences', () => {
  const run = { pairs, seed: 1, beta: 0.5, batchSize: 4, learningRate: 0.02, warmUp: 1, ...limits };

  it('starts at ln 2 with no reward, and raises both reward and accuracy', async () => {
    const policy = new TinyModel(device, VOCABULARY, 6, 1);
    const before = await scorePairs(policy, pairs, limits);
    await device.synchronize();
    const { liveBuffers } = device.statistics();
    const steps = await all(tunePreferences({ ...run, policy, steps: 25 }));
    expect(device.statistics().liveBuffers).toBe(liveBuffers);
    expect(steps[0]!.loss).toBeCloseTo(Math.LN2, 5);
    expect(steps[0]!.metrics!.reward).toBeCloseTo(0, 5);
    const last = steps.at(-1)!;
    expect(last.loss).toBeLessThan(0.3);
    expect(last.metrics!.reward).toBeGreaterThan(1);
    expect(last.metrics!.accuracy).toBe(1);
    const after = await scorePairs(policy, pairs, limits);
    expect(preferenceAccuracy(after)).toBeGreaterThan(preferenceAccuracy(before));
    policy.dispose();
  });

  it('takes one epoch unless told otherwise, and computes the references that it is not given', async () => {
    const losses: number[][] = [];
    for (const given of [false, true]) {
      const policy = new TinyModel(device, VOCABULARY, 6, 1);
      const references = given ? await scorePairs(policy, pairs, limits) : undefined;
      const steps = await all(tunePreferences({ ...run, policy, references }));
      expect(steps).toHaveLength(3);
      losses.push(steps.map((step) => step.loss));
      policy.dispose();
    }
    // Scored in batches of another width, so the references may differ in the last bit.
    for (const [i, loss] of losses[0]!.entries()) expect(losses[1]![i]).toBeCloseTo(loss, 5);
  });

  it('has the published defaults', async () => {
    const policy = new TinyModel(device, VOCABULARY, 6, 1);
    const many = Array.from({ length: 640 }, (_, i) => pairs[i % pairs.length]!);
    const steps: StepMetrics[] = [];
    for await (const step of tunePreferences({ policy, pairs: many, seed: 1, ...limits })) steps.push(step);
    expect(steps).toHaveLength(20);
    expect(steps[0]!.learningRate).toBe(2.5e-7);
    expect(steps[1]!.learningRate).toBe(5e-7);
    expect(steps[19]!.learningRate).toBeLessThan(1e-8);
    policy.dispose();
  });
});
