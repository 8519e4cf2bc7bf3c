import { distill, distillLayers } from '@zebra/distill';
import { preferenceAccuracy, scorePairs, tunePreferences } from '@zebra/dpo';
import { generate, type HybridLayerKind, type HybridModel } from '@zebra/runtime';
import { placeLayers, sensitivityScores } from '@zebra/smart';
import { composeLayers } from '@zebra/tensor/nn';
import { testDevice } from '@zebra/tensor/testing';
import { packDocuments, type StepMetrics } from '@zebra/tensor/train';
import { expect, it } from 'vitest';
import { makeStudent } from '../src/qwen/students.js';
import { int32, randomIds } from './support/rows.js';
import { smallModel } from './support/small-model.js';

const LAYERS = 3;

/** First and last loss of a run. */
async function ends(run: AsyncIterable<StepMetrics>): Promise<[first: number, last: number]> {
  const losses: number[] = [];
  for await (const { loss } of run) losses.push(loss);
  return [losses[0]!, losses.at(-1)!];
}

it('a Transformer becomes a hybrid: initialisation, ILD, SMART, distillation, DPO, text; each stage does its part', async () => {
  const device = await testDevice();
  const live = device.statistics().liveBuffers;
  const teacher = smallModel(device, 'llama', 11);
  const documents = [17, 9, 25, 12, 30].map((length, i) => randomIds(length, 80 + i));
  const pack = () => packDocuments(documents, { batchSize: 2, length: 16, seed: 1, boundaries: 'reset' });
  const run = { teacher, steps: 30, learningRate: 5e-3 };

  const kinds = ['mamba2', 'mla'] as const;
  const [base, alternative] = (await Promise.all(
    kinds.map(async (kind) => {
      const layers = new Array<HybridLayerKind>(LAYERS).fill(kind);
      return (await makeStudent(teacher, { layers, qLoraRank: 16, kvLoraRank: 12 })).model;
    }),
  )) as [HybridModel, HybridModel];
  for (const student of [base, alternative]) {
    const [first, last] = await ends(distillLayers({ ...run, student, data: pack() }));
    expect(last).toBeLessThan(0.8 * first);
  }

  const batch = { ids: int32(device, [randomIds(16, 90), randomIds(16, 91)]) };
  const scoring = { teacher, base, alternative, batches: [batch] };
  const { scores, baseDivergence, swappedDivergences } = await sensitivityScores(scoring);
  scores.forEach((score, i) => {
    expect(score).toBeCloseTo(baseDivergence - swappedDivergences[i]!, 6);
  });
  const [mlaLayer] = placeLayers(scores, 1);
  expect(scores[mlaLayer!]).toBe(Math.max(...scores));

  // What the scores promise of one swapped layer is what the composed student has.
  const layers = scores.map((_, i) => (i === mlaLayer ? alternative : base));
  const hybrid = composeLayers(base, layers);
  const itself = await sensitivityScores({ ...scoring, base: hybrid, alternative: hybrid });
  expect(itself.baseDivergence).toBeCloseTo(swappedDivergences[mlaLayer!]!, 5);

  const [before, after] = await ends(distill({ ...run, student: hybrid, data: pack() }));
  expect(after).toBeLessThan(0.8 * before);

  const pairs = Array.from({ length: 8 }, (_, i) => {
    const [prompt, chosen, rejected] = [randomIds(4, 100 + i), randomIds(3, 200 + i), randomIds(3, 300 + i)];
    return { prompt: prompt!, chosen: chosen!, rejected: rejected! };
  });
  const tuning = {
    policy: hybrid,
    pairs,
    endToken: 2,
    seed: 1,
    batchSize: 4,
    steps: 12,
    learningRate: 3e-3,
    beta: 0.1,
  };
  await ends(tunePreferences(tuning));
  expect(preferenceAccuracy(await scorePairs(hybrid, pairs, { endToken: 2 }))).toBe(1);

  const tokens: number[] = [];
  for await (const step of generate(hybrid, [randomIds(5, 1)], { maxNewTokens: 6 }))
    tokens.push(...step.tokens.map(({ id }) => id));
  expect(tokens).toHaveLength(6);

  for (const item of [teacher, base, alternative, batch.ids]) item.dispose();
  expect(device.statistics().liveBuffers).toBe(live);
});
