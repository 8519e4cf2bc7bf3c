import { join } from 'node:path';
import { distill, distillLayers } from '@zebra/distill';
import { type ReferenceLogProbabilities, tunePreferences } from '@zebra/dpo';
import type { HybridModel } from '@zebra/runtime';
import { appendMetrics, packDocuments, type StepMetrics } from '@zebra/tensor/train';
import type { TrainingStage } from './budget.js';
import { pieces } from './data.js';
import type { DemoPairs } from './pairs.js';
import { short } from './progress.js';
import type { StageReport } from './report.js';
import type { DemoRun } from './run.js';

/** What a training run differs in between measuring and training. */
interface RunSettings {
  readonly steps: number;
  readonly learningRate: number;
}

type TrainingRun = (settings: RunSettings) => AsyncGenerator<StepMetrics, unknown, void>;

/** Points of a stage's curve in the report. */
const CURVE_POINTS = 400;
/** Share of a stage's progress that its training makes up; the rest is measuring and evaluation. */
const TRAINING_PROGRESS = 0.85;
const MEASURED_STEPS = 3;
/** A stage on a machine that became slower since its steps were measured ends early, beyond so many times its time. */
const GRACE = 1.2;

/** Intermediate-layer distillation of one student. */
export function distillStudent(
  demo: DemoRun,
  stage: 'mla' | 'mamba2',
  models: { readonly teacher: HybridModel; readonly student: HybridModel },
): Promise<StageReport> {
  return trainStage(demo, stage, ({ steps, learningRate }) =>
    distillLayers({ ...models, ...trainingOf(demo, stage, steps), learningRate, mixerWeight: demo.recipe.mixerWeight }),
  );
}

/** End-to-end distillation of the composed hybrid. */
export function distillHybrid(
  demo: DemoRun,
  models: { readonly teacher: HybridModel; readonly student: HybridModel },
): Promise<StageReport> {
  const stage = 'distillation';
  return trainStage(demo, stage, ({ steps, learningRate }) =>
    distill({ ...models, ...trainingOf(demo, stage, steps), learningRate }),
  );
}

/** DPO of the distilled hybrid against itself as it was. */
export function tuneHybrid(
  demo: DemoRun,
  policy: HybridModel,
  { pairs, references }: { readonly pairs: DemoPairs; readonly references: readonly ReferenceLogProbabilities[] },
): Promise<StageReport> {
  const { recipe, options } = demo;
  return trainStage(demo, 'preferences', ({ steps, learningRate }) =>
    tunePreferences({
      policy,
      pairs: pairs.train,
      references,
      ...pairs.limits,
      beta: recipe.pairs.beta,
      batchSize: Math.min(recipe.stages.preferences.batchSize, pairs.train.length),
      seed: options.seed,
      steps,
      learningRate,
    }),
  );
}

function trainingOf({ data, recipe, options }: DemoRun, stage: TrainingStage, steps: number) {
  const { batchSize, warmUp } = recipe.stages[stage];
  const { length } = recipe;
  // Distillation goes through the text in another order than ILD did.
  const seed = options.seed + (stage === 'distillation' ? 1000 : 0);
  const rows = data.train.flatMap((document) => pieces(document, length));
  return {
    data: packDocuments(rows, { batchSize, length, seed, boundaries: 'reset' }),
    steps,
    warmUp: Math.max(2, Math.round(warmUp * steps)),
  };
}

/** Runs a stage for as many steps as its time allows, and writes its metrics. */
async function trainStage(demo: DemoRun, stage: TrainingStage, run: TrainingRun): Promise<StageReport> {
  const { budget, recipe, options } = demo;
  const { batchSize, learningRate, steps: fixed, least, most } = recipe.stages[stage];
  demo.progress(0.02, 'measuring a step');
  const measured = fixed === undefined ? await measureStep(run) : undefined;
  const fitting = measured === undefined ? most : Math.floor(budget.trainingSeconds(stage) / measured);
  const planned = fixed ?? Math.min(most, Math.max(least, fitting));
  const latest = measured === undefined ? Number.POSITIVE_INFINITY : GRACE * planned * measured;
  if (measured !== undefined) budget.settle(stage, planned * measured);
  const losses: { step: number; loss: number }[] = [];
  let tokens = 0;
  await using metrics = await appendMetrics(join(options.out, 'metrics', `${stage}.jsonl`));
  const begun = performance.now();
  const elapsed = () => (performance.now() - begun) / 1000;
  for await (const metric of run({ steps: planned, learningRate })) {
    await metrics.write(metric);
    losses.push({ step: metric.step, loss: metric.loss });
    tokens += metric.tokens ?? 0;
    if (metric.step % 10 === 0) budget.settle(stage, (elapsed() / metric.step) * (planned - metric.step));
    const rate = metric.tokensPerSecond === undefined ? '' : `  ${short(metric.tokensPerSecond)} tokens/s`;
    const detail = `${metric.step}/${planned}  loss ${metric.loss.toFixed(3)}${rate}`;
    demo.progress(0.05 + TRAINING_PROGRESS * (metric.step / planned), detail);
    if (elapsed() > latest && metric.step >= least) break;
  }
  const seconds = elapsed();
  return {
    stage,
    steps: losses.length,
    plannedSteps: planned,
    batchSize,
    learningRate,
    tokens,
    seconds,
    measuredStepSeconds: measured ?? null,
    tokensPerSecond: tokens / seconds,
    curve: thinned(losses),
  };
}

/** Seconds of a step: the mean of some after the first, which compiles. Their learning rate is 0, so nothing changes. */
async function measureStep(run: TrainingRun): Promise<number> {
  const seconds: number[] = [];
  for await (const metric of run({ steps: 1 + MEASURED_STEPS, learningRate: 0 })) seconds.push(metric.seconds);
  return Math.max(1e-4, seconds.slice(1).reduce((sum, value) => sum + value, 0) / MEASURED_STEPS);
}

/** At most so many points, means over the steps that each stands for. */
function thinned(losses: readonly { step: number; loss: number }[]): { step: number; loss: number }[] {
  const size = Math.ceil(losses.length / CURVE_POINTS);
  const points: { step: number; loss: number }[] = [];
  for (let first = 0; first < losses.length; first += size) {
    const group = losses.slice(first, first + size);
    const loss = group.reduce((sum, point) => sum + point.loss, 0) / group.length;
    points.push({ step: group[group.length - 1]!.step, loss });
  }
  return points;
}
