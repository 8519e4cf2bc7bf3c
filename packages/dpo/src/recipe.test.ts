import { linearModel, testDevice } from '@zebra/tensor/testing';
import type { StepMetrics } from '@zebra/tensor/train';
import { describe, expect, it } from 'vitest';
import { preferenceAccuracy, scorePairs } from './log-probabilities.js';
import { tunePreferences } from './recipe.js';

const END = 1;
const device = await testDevice();
const makePolicy = () => linearModel(device, { vocabularySize: 17, hiddenSize: 6, layerCount: 1, seed: 1 });

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

describe('tunePreferences', () => {
  const run = { pairs, seed: 1, beta: 0.5, batchSize: 4, learningRate: 0.02, warmUp: 1, ...limits };

  it('starts at ln 2 with no reward, and raises both reward and accuracy', async () => {
    const policy = makePolicy();
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
      const policy = makePolicy();
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
    const policy = makePolicy();
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
