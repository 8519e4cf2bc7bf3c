import { preferenceAccuracy, scorePairs } from '@zebra/dpo';
import type { HybridModel } from '@zebra/runtime';
import { loadPairs, preferenceQuality } from './pairs.js';
import type { PreferenceReport, StageReport } from './report.js';
import type { DemoRun } from './run.js';
import { tuneHybrid } from './stages.js';

/** What DPO did. */
export interface Tuning {
  readonly preferences: PreferenceReport;
  readonly stage: StageReport;
  /** Validation loss afterwards, nats a token. */
  readonly loss: number;
}

/** Tunes a hybrid, in place, to prefer sentences as they were written. */
export async function tuneModel(run: DemoRun, hybrid: HybridModel): Promise<Tuning> {
  const { recipe, options } = run;
  run.enter('pairs');
  const pairs = loadPairs(run.data, { ...recipe.pairs, seed: options.seed });
  const scoring = { ...pairs.limits, batchSize: recipe.stages.preferences.batchSize };
  const all = pairs.train.length + pairs.evaluation.length;
  const score = (part: 'train' | 'evaluation', already: number) =>
    scorePairs(hybrid, pairs[part], {
      ...scoring,
      onProgress: (done) => run.progress((already + done) / all, `${already + done}/${all} pairs`),
    });
  const references = await score('train', 0);
  const before = await score('evaluation', pairs.train.length);

  run.enter('preferences');
  const stage = await tuneHybrid(run, hybrid, { pairs, references });
  const after = await scorePairs(hybrid, pairs.evaluation, scoring);
  const loss = await run.loss(hybrid, [0.95, 1]);
  const { beta } = recipe.pairs;
  const rewards = after.map(({ chosen, rejected }, i) => ({
    chosen: beta * (chosen - before[i]!.chosen),
    rejected: beta * (rejected - before[i]!.rejected),
  }));
  return {
    stage,
    loss,
    preferences: {
      trainPairs: pairs.train.length,
      evaluationPairs: pairs.evaluation.length,
      beta,
      before: preferenceQuality(pairs.evaluation, before),
      after: preferenceQuality(pairs.evaluation, after),
      reward: rewards.reduce((sum, { chosen, rejected }) => sum + chosen - rejected, 0) / rewards.length,
      rewardAccuracy: preferenceAccuracy(rewards),
    },
  };
}
