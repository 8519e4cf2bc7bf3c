import { mkdir, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { distill, distillLayers } from '@zebra/distill';
import {
  downloadModel,
  type HybridConfig,
  type HybridModel,
  loadModel,
  loadTokenizer,
  modelSpec,
  presetHybridConfig,
  proposeHybrid,
  readModelSpec,
  saveModel,
  type TransformerConfig,
} from '@zebra/runtime';
import { type Device, openDevice } from '@zebra/tensor';
import { packDocuments, type StepMetrics } from '@zebra/tensor/train';
import { documentsOfIds, documentsOfText } from './documents.js';
import type { ConvertOptions } from './options.js';
import { Stages } from './stages.js';
import { studentOf } from './student.js';

/**
 * Converts a checkpoint as the options say, prints a line a stage, and writes the hybrid and `report.json`.
 *
 * @param inspect sees the student before it is saved
 */
export async function convertModel(
  options: ConvertOptions,
  write: (line: string) => void,
  inspect?: (student: HybridModel) => Promise<void>,
): Promise<void> {
  const folder = await folderOf(options.model);
  // What is quick comes first: wrong options are found out before weights are read.
  const { config } = await readModelSpec(folder);
  const hybrid = hybridOf(config, options);
  const documents = options.ids
    ? await documentsOfIds(options.ids)
    : await documentsOfText(options.text!, await loadTokenizer(folder), config.eosTokenIds[0]);
  await mkdir(options.out, { recursive: true });

  const device = await openDevice();
  try {
    const computeDType = options.compute ?? (device.info.float16 ? 'float16' : 'float32');
    write(`${options.model}: ${config.layerCount} layers, ${device.info.description}, ${computeDType}`);
    const stages = new Stages(device, write);
    const precision = { computeDType, maxPositions: Math.max(options.length, 2048) };
    const spec = modelSpec(config, hybrid, precision);

    const student = await stages.run('load and initialise', async () => {
      using teacher = await loadModel(device, folder, precision);
      // Awaited here: the teacher is freed where the function returns.
      return await studentOf(device, teacher, spec, { ropeRows: options.ropeRows, seed: options.seed });
    });
    const teacher = await stages.run('load the teacher', () =>
      loadModel(device, folder, { dtype: computeDType, ...precision }),
    );
    try {
      await distilBoth(device, stages, { teacher, student, documents, options });
    } finally {
      teacher.dispose();
    }
    await inspect?.(student);
    await stages.run('save', () =>
      saveModel(options.out, student, spec, { dtype: options.save, companionsFrom: folder }),
    );
    student.dispose();
    const report = { model: options.model, device: device.info.description, options, stages: stages.done };
    await writeFile(join(options.out, 'report.json'), `${JSON.stringify(report, undefined, 2)}\n`);
  } finally {
    device.destroy();
  }
}

interface Distillation {
  readonly teacher: HybridModel;
  readonly student: HybridModel;
  readonly documents: readonly Int32Array[];
  readonly options: ConvertOptions;
}

/** Intermediate layers first, where steps are asked for, then end to end. */
async function distilBoth(device: Device, stages: Stages, { teacher, student, documents, options }: Distillation) {
  const { rows, length, seed, learningRate, checkpointLayers, layerSteps, steps } = options;
  const mixed = student.spec.computeDType === 'float16';
  const packed = (order: number) =>
    packDocuments(documents, { batchSize: rows, length, seed: order, vocabularySize: student.vocabularySize });
  const common = { teacher, student, learningRate, checkpointLayers, ...(mixed && { lossScale: {} }) };
  if (layerSteps > 0) {
    const run = () => losses(distillLayers({ ...common, data: packed(seed), steps: layerSteps }));
    await stages.run('distil layers', run, summary);
  }
  if (steps > 0) {
    const run = () => losses(distill({ ...common, data: packed(seed + 1), steps }));
    await stages.run('distil end to end', run, summary);
  }
  device.trim();
}

async function losses(run: AsyncIterable<StepMetrics>): Promise<StepMetrics[]> {
  const seen: StepMetrics[] = [];
  for await (const metrics of run) seen.push(metrics);
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

function hybridOf(config: TransformerConfig, { preset, mlaLayers }: ConvertOptions): HybridConfig {
  if (preset) return presetHybridConfig(preset);
  const quarter = Math.max(1, Math.round(config.layerCount / 4));
  return proposeHybrid(config, { mlaLayers: mlaLayers ?? quarter }).hybrid;
}

/** A folder as it is, or the hub's files in the cache. */
async function folderOf(model: string): Promise<string> {
  const { stat } = await import('node:fs/promises');
  const isFolder = await stat(model).then(
    (found) => found.isDirectory(),
    () => false,
  );
  return isFolder ? model : (await downloadModel(model)).folder;
}
