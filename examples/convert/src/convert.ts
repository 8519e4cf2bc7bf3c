import type { HybridLayerKind, HybridModel, ModelSpec } from '@zebra/runtime';
import { placeLayers, sensitivityScores } from '@zebra/smart';
import { composeLayers } from '@zebra/tensor/nn';
import { deviceBatches, sampleOf } from './data.js';
import type { SmartReport, StageReport } from './report.js';
import type { DemoRun } from './run.js';
import { distillHybrid, distillStudent } from './stages.js';
import {
  buildModel,
  chooseMla,
  composeWeights,
  type HostWeights,
  hybridSpec,
  initialiseStudent,
  type MlaChoice,
  readWeights,
} from './students.js';

/** Losses of models on the way, nats a token. */
interface ConversionLosses {
  readonly initial: { readonly mla: number; readonly mamba2: number; readonly composed: number };
  readonly mla: number;
  readonly mamba2: number;
  readonly composed: number;
  readonly distilled: number;
}

/** A teacher's hybrid after distillation, and how it came about. */
export interface Conversion {
  /** The caller's. */
  readonly hybrid: HybridModel;
  readonly mla: MlaChoice;
  readonly smart: SmartReport;
  readonly losses: ConversionLosses;
  readonly stages: readonly StageReport[];
}

/** A student of one kind of layers, with what it was before it was trained. */
interface Student {
  readonly model: HybridModel;
  readonly initial: HostWeights;
  readonly initialLoss: number;
  readonly loss: number;
  readonly report: StageReport;
}

/** Initialises two students, distils their layers, places layers by SMART, composes the hybrid and distils it. */
export async function convertTeacher(run: DemoRun, teacher: HybridModel): Promise<Conversion> {
  const mla = chooseMla(teacher.spec, run.options.ropeRows);
  const weights = await readWeights(teacher);
  const students = {
    mla: await makeStudent(run, 'mla', { teacher, weights, mla }),
    mamba2: await makeStudent(run, 'mamba2', { teacher, weights, mla }),
  };
  run.enter('smart');
  const smart = await placeByScores(run, teacher, students);

  run.enter('distillation');
  const kinds = teacher.spec.layers.map(
    (_, layer): HybridLayerKind => (smart.placement.includes(layer) ? 'mla' : 'mamba2'),
  );
  const spec = hybridSpec(teacher.spec, kinds, mla);
  const initial = await initialLoss(run, spec, { mla: students.mla.initial, mamba2: students.mamba2.initial });
  const borrowed = composeLayers(
    teacher,
    kinds.map((kind) => students[kind as 'mla' | 'mamba2'].model),
  );
  const composed = await run.loss(borrowed, [0.02, 0.04]);
  const trained = { mla: await readWeights(students.mla.model), mamba2: await readWeights(students.mamba2.model) };
  for (const { model } of Object.values(students)) model.dispose();
  const hybrid = buildModel(run.device, spec, composeWeights(spec, trained));
  const report = await distillHybrid(run, { teacher, student: hybrid });
  return {
    hybrid,
    mla,
    smart,
    losses: {
      initial: { mla: students.mla.initialLoss, mamba2: students.mamba2.initialLoss, composed: initial },
      mla: students.mla.loss,
      mamba2: students.mamba2.loss,
      composed,
      distilled: await run.loss(hybrid, [0.95, 1]),
    },
    stages: [students.mla.report, students.mamba2.report, report],
  };
}

/** Makes a student whose layers are all of one kind, and teaches each layer what the teacher's does. */
async function makeStudent(
  run: DemoRun,
  kind: 'mla' | 'mamba2',
  from: { readonly teacher: HybridModel; readonly weights: HostWeights; readonly mla: MlaChoice },
): Promise<Student> {
  run.enter(kind);
  const { teacher, weights, mla } = from;
  const spec = hybridSpec(
    teacher.spec,
    teacher.spec.layers.map(() => kind),
    mla,
  );
  const initial = initialiseStudent(teacher.spec, weights, spec, { mla, seed: run.options.seed });
  const model = buildModel(run.device, spec, initial);
  const loss = await run.loss(model, [0, 0.02]);
  const report = await distillStudent(run, kind, { teacher, student: model });
  return { model, initial, initialLoss: loss, loss: await run.loss(model, [0.95, 1]), report };
}

/** A quarter of the layers become MLA layers: where SMART's scores say. */
async function placeByScores(
  run: DemoRun,
  teacher: HybridModel,
  students: { readonly mla: Student; readonly mamba2: Student },
): Promise<SmartReport> {
  const { recipe, data, options } = run;
  const pieces = sampleOf(data.train, {
    length: recipe.evaluationLength,
    tokens: recipe.calibrationTokens,
    seed: options.seed + 1,
  });
  const shape = {
    batchSize: Math.min(recipe.evaluationRows, recipe.calibrationTokens / recipe.evaluationLength),
    length: recipe.evaluationLength,
  };
  const calibration = deviceBatches(run.device, pieces, shape);
  try {
    const { scores, baseDivergence } = await sensitivityScores({
      teacher,
      base: students.mamba2.model,
      alternative: students.mla.model,
      batches: calibration.batches,
      onProgress: ({ batch, layer, layers }) =>
        run.progress((batch + (layer + 1) / layers) / calibration.batches.length, `layer ${layer + 1}/${layers}`),
    });
    const placement = placeLayers(scores, Math.max(1, Math.round(teacher.layerCount / 4)));
    return { scores, baseDivergence, placement };
  } finally {
    calibration.dispose();
  }
}

/** The loss that the hybrid would have had without any training. */
async function initialLoss(
  run: DemoRun,
  spec: ModelSpec,
  initial: { readonly mla: HostWeights; readonly mamba2: HostWeights },
): Promise<number> {
  using model = buildModel(run.device, spec, composeWeights(spec, initial));
  return await run.loss(model, [0, 0.02]);
}
