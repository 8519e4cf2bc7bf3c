import { rm } from 'node:fs/promises';
import { join } from 'node:path';
import { distill, distillLayers } from '@zebra/distill';
import type { HybridModel } from '@zebra/runtime';
import { ZebraError } from '@zebra/tensor';
import { appendMetrics, hasCheckpoint, type MetricsFile, packDocuments, type StepMetrics } from '@zebra/tensor/train';
import { type ProgressState, short } from 'zebra-example-convert/progress';
import type { ConvertOptions } from './options.js';
import { StepPace } from './pace.js';
import type { Stages } from './stages.js';

const LAYERS = 'layers';
const END_TO_END = 'end-to-end';
/** What each stage is called in the report. */
const TITLES = { [LAYERS]: 'distil layers', [END_TO_END]: 'distil end to end' } as const;
type TrainingStage = keyof typeof TITLES;

const checkpoints = (out: string) => join(out, 'checkpoints');
const checkpointOf = (out: string, stage: TrainingStage) => join(checkpoints(out), stage);

/** Throws before anything is loaded where a new run would replace the checkpoints of one that was cut off. */
export async function assertNoCheckpoints({ out, resume }: ConvertOptions): Promise<void> {
  if (resume) return;
  for (const stage of [LAYERS, END_TO_END] as const) {
    if (!(await hasCheckpoint(checkpointOf(out, stage)))) continue;
    throw new ZebraError(
      'argument',
      `${out} holds checkpoints of a run that was cut off. Go on with it by --resume, or remove ${checkpoints(out)}.`,
    );
  }
}

/** Checkpoints are of no use once the hybrid is saved. */
export async function removeCheckpoints({ out }: ConvertOptions): Promise<void> {
  await rm(checkpoints(out), { recursive: true, force: true });
}

/** What is trained, and how it shows. */
export interface Training {
  readonly teacher: HybridModel;
  readonly student: HybridModel;
  readonly documents: readonly Int32Array[];
  readonly options: ConvertOptions;
  readonly show?: (state: ProgressState) => void;
  /** Ends the run after the step at hand, with a checkpoint. */
  readonly signal?: AbortSignal;
}

/**
 * Intermediate layers first, where steps are asked for, then end to end. Every step is a line of `metrics.jsonl`, whose
 * `step` counts through both stages.
 */
export async function distilBoth(stages: Stages, training: Training): Promise<void> {
  const { layerSteps, steps, out, layerLearningRate, learningRate } = training.options;
  const pace = new StepPace(layerSteps + steps);
  await using metrics = await appendMetrics(join(out, 'metrics.jsonl'));
  const run = async (stage: TrainingStage, recipe: typeof distill | typeof distillLayers, settings: StageSettings) => {
    if (settings.steps === 0) return;
    const begin = await stageOptions(training, stage, settings);
    pace.begin(settings.before);
    const steps = () => follow(recipe({ ...begin }), { stage, settings, pace, metrics, show: training.show });
    await stages.run(TITLES[stage], steps, summary);
  };
  // Where the second stage had begun, its checkpoint holds all that the first one did.
  const past = training.options.resume && (await hasCheckpoint(checkpointOf(out, END_TO_END)));
  if (!past) await run(LAYERS, distillLayers, { steps: layerSteps, learningRate: layerLearningRate, before: 0 });
  await run(END_TO_END, distill, { steps, learningRate, before: layerSteps });
}

interface StageSettings {
  readonly steps: number;
  readonly learningRate: number;
  /** Steps of the stages before. */
  readonly before: number;
}

async function stageOptions(training: Training, stage: TrainingStage, { steps, learningRate }: StageSettings) {
  const { teacher, student, documents, options, signal } = training;
  const { rows, length, seed, checkpointLayers, checkpointEvery, out, resume } = options;
  const folder = checkpointOf(out, stage);
  const order = stage === LAYERS ? seed : seed + 1;
  return {
    teacher,
    student,
    steps,
    learningRate,
    checkpointLayers,
    data: packDocuments(documents, {
      batchSize: rows,
      length,
      seed: order,
      vocabularySize: student.vocabularySize,
    }),
    ...(student.spec.computeDType === 'float16' && { lossScale: {} }),
    ...(checkpointEvery > 0 && { checkpoint: { folder, every: checkpointEvery } }),
    resume: resume && (await hasCheckpoint(folder)) ? folder : false,
    ...(signal && { signal }),
  };
}

interface Following {
  readonly stage: TrainingStage;
  readonly settings: StageSettings;
  readonly pace: StepPace;
  readonly metrics: MetricsFile;
  readonly show: Training['show'];
}

/** Runs a stage; each step goes into the metrics and onto the progress line. */
async function follow(
  run: AsyncIterable<StepMetrics>,
  { stage, settings: { steps, before }, pace, metrics, show }: Following,
): Promise<StepMetrics[]> {
  const seen: StepMetrics[] = [];
  for await (const metric of run) {
    seen.push(metric);
    const line = { ...metric, stage, step: before + metric.step };
    await metrics.write(line);
    const rate = metric.tokensPerSecond === undefined ? '' : `  ${short(metric.tokensPerSecond)} tokens/s`;
    const detail = `${metric.step}/${steps}  loss ${Number(metric.loss.toPrecision(4))}${rate}`;
    show?.({ title: TITLES[stage], pace: pace.step(metric.step), detail });
  }
  return seen;
}

/** First and last loss, and the rate once the step is recorded. */
function summary(seen: readonly StepMetrics[]) {
  const rates = seen.slice(1).flatMap(({ tokensPerSecond }) => tokensPerSecond ?? []);
  rates.sort((a, b) => a - b);
  return {
    firstLoss: seen[0]?.loss,
    lastLoss: seen.at(-1)?.loss,
    tokensPerSecond: rates[Math.floor(rates.length / 2)],
    losses: seen.map(({ loss }) => loss),
  };
}
