import { mkdir, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import {
  type HybridModel,
  loadModel,
  loadTokenizer,
  modelSpec,
  saveModel,
  type TransformerConfig,
} from '@zebra/runtime';
import { openDevice } from '@zebra/tensor';
import type { ProgressState } from 'zebra-example-convert/progress';
import { computeDTypeOf } from './compute.js';
import { documentsOfIds, documentsOfText } from './documents.js';
import type { ConvertOptions } from './options.js';
import { assertApart, folderOf, hybridOf, transformerOf } from './sources.js';
import { Stages } from './stages.js';
import { studentOf } from './student.js';
import { assertNoCheckpoints, distilBoth, removeCheckpoints } from './training.js';

/** What a run may be watched and ended with. */
export interface ConvertHooks {
  /** Sees the student before it is saved. */
  readonly inspect?: (student: HybridModel) => Promise<void>;
  /** Called with what a progress line is to show. */
  readonly show?: (state: ProgressState) => void;
  /** Ends the run after the training step at hand, with a checkpoint, by throwing its reason. */
  readonly signal?: AbortSignal;
}

/** Converts a checkpoint as the options say, prints a line a stage, and writes the hybrid and `report.json`. */
export async function convertModel(
  options: ConvertOptions,
  write: (line: string) => void,
  { inspect, show, signal }: ConvertHooks = {},
): Promise<void> {
  // What is quick comes first: wrong options are found out before weights are read.
  const folder = await folderOf(options.model);
  await assertApart(folder, options.out);
  await assertNoCheckpoints(options);
  const config = await transformerOf(folder, options.model);
  const hybrid = hybridOf(config, options);
  const documents = await documentsOf(options, folder, config);
  await mkdir(options.out, { recursive: true });

  const device = await openDevice({ adapter: options.adapter });
  try {
    const computeDType = computeDTypeOf(device.info, options.compute);
    write(`${options.model}: ${config.layerCount} layers, ${device.info.description}, ${computeDType}`);
    const stages = new Stages(device, write);
    const precision = { computeDType, maxPositions: Math.max(options.length, 2048) };
    const spec = modelSpec(config, hybrid, precision);
    const loading = (title: string, detail: string) => show?.({ title, detail, pace: { share: 0 } });

    const student = await stages.run('load and initialise', async () => {
      loading('load and initialise', 'reading weights');
      using teacher = await loadModel(device, folder, precision);
      // Awaited here: the teacher is freed where the function returns.
      return await studentOf(device, teacher, spec, {
        ropeRows: options.ropeRows,
        seed: options.seed,
        onLayer: (done, total) => loading('load and initialise', `${done}/${total} layers`),
      });
    });
    if (options.layerSteps + options.steps > 0) {
      const teacher = await stages.run('load the teacher', async () => {
        loading('load the teacher', 'reading weights');
        return await loadModel(device, folder, { dtype: computeDType, ...precision });
      });
      try {
        await distilBoth(stages, { teacher, student, documents, options, show, signal });
      } finally {
        teacher.dispose();
      }
      device.trim();
    }
    await inspect?.(student);
    show?.({ title: 'save', pace: { share: 1 } });
    await stages.run('save', () =>
      saveModel(options.out, student, spec, { dtype: options.save, companionsFrom: folder }),
    );
    student.dispose();
    const report = { model: options.model, device: device.info.description, options, stages: stages.done };
    await writeFile(join(options.out, 'report.json'), `${JSON.stringify(report, undefined, 2)}\n`);
    await removeCheckpoints(options);
  } finally {
    device.destroy();
  }
}

/** What there is to distil on; nothing where nothing is distilled. */
async function documentsOf(
  { text, ids }: ConvertOptions,
  folder: string,
  config: TransformerConfig,
): Promise<Int32Array[]> {
  if (ids !== undefined) return documentsOfIds(ids);
  if (text === undefined) return [];
  return documentsOfText(text, await loadTokenizer(folder), config.eosTokenIds[0]);
}
