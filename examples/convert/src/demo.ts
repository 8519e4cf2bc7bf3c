import { mkdir, readFile, rename, stat, writeFile } from 'node:fs/promises';
import { createRequire } from 'node:module';
import { join } from 'node:path';
import { cacheReport, type HybridModel, loadModel, loadTokenizer, saveModel, type Tokenizer } from '@zebra/runtime';
import { type Device, openDevice } from '@zebra/tensor';
import type { CausalLM } from '@zebra/tensor/nn';
import { convertTeacher } from './convert.js';
import { loadData } from './data.js';
import type { DemoOptions } from './options.js';
import { writePlots } from './plots.js';
import { TRAIN_TOKENS } from './recipe.js';
import { type DemoReport, gapReport, gapTarget, type LossReport } from './report.js';
import { type DemoHooks, DemoRun } from './run.js';
import { decodeRate, SAMPLING, sampleText } from './sampling.js';
import { tuneModel } from './tune.js';

/**
 * Takes a teacher all the way to a tuned hybrid. Writes the hybrid, the plots, the stages' metrics and, last,
 * `report.json` to `options.out`.
 */
export async function runDemo(options: DemoOptions, hooks: DemoHooks = {}): Promise<DemoReport> {
  const startedAt = new Date();
  const device = hooks.device ?? (await openFor(options));
  try {
    const run = new DemoRun(device, options, hooks);
    run.enter('open');
    await mkdir(options.out, { recursive: true });
    using teacher = await loadModel(device, options.teacher);
    const trainTokens = hooks.trainTokens ?? TRAIN_TOKENS[device.info.software ? 'software' : 'hardware'];
    run.data = loadData({ tokenizerFolder: options.teacher, trainTokens });
    run.enter('teacher');
    await run.chooseRecipe(teacher);
    const teacherLoss = await run.loss(teacher, [0.3, 1]);

    const { hybrid: owned, mla, smart, losses: onTheWay, stages } = await convertTeacher(run, teacher);
    using hybrid = owned;
    const { preferences, stage, loss: tuned } = await tuneModel(run, hybrid);

    run.enter('text');
    const folder = join(options.out, 'hybrid');
    await saveHybrid(folder, hybrid, options.teacher);
    run.progress(0.1, 'text');
    const shown = await showModels(run, teacher, hybrid);
    const losses: LossReport = {
      validationTokens: run.validation.reduce((sum, piece) => sum + piece.length - 1, 0),
      teacher: teacherLoss,
      ...onTheWay,
      tuned,
      committed: shown.committedLoss,
    };
    const allStages = [...stages, stage];
    const { recipe } = run;
    const report: DemoReport = {
      schema: 1,
      startedAt: startedAt.toISOString(),
      seconds: 0,
      parts: {},
      versions: { zebra: zebraVersion(), node: process.version, platform: `${process.platform}-${process.arch}` },
      adapter: {
        vendor: device.info.vendor,
        architecture: device.info.architecture,
        description: device.info.description,
        software: device.info.software,
        forwardTokensPerSecond: run.forwardRate,
      },
      seed: options.seed,
      recipe: {
        name: recipe.name,
        budgetSeconds: options.seconds,
        rowLength: recipe.length,
        mixerWeight: recipe.mixerWeight,
        trainTokens: run.data.trainTokens,
        calibrationTokens: recipe.calibrationTokens,
        steps: allStages.map(({ steps }) => steps).join(','),
      },
      teacher: { folder: options.teacher, parameters: parameterCount(teacher), layers: teacher.layerCount },
      hybrid: {
        folder,
        parameters: parameterCount(hybrid),
        mla: { ...mla, sharedRopeKey: mla.ropeRows === 'last' ? 'mean' : 'aligned' },
      },
      stages: allStages,
      losses,
      gap: gapReport(losses, gapTarget(device.info, options.full)),
      cache: cacheSizes(hybrid),
      smart,
      preferences,
      decoding: shown.decoding,
      samples: shown.samples,
      files: { checkpoint: 'hybrid', plots: [], metrics: allStages.map((one) => `metrics/${one.stage}.jsonl`) },
    };
    run.progress(0.95, 'plots');
    const plots = await writePlots(options.out, report);
    run.budget.end();
    const whole = {
      ...report,
      seconds: run.budget.elapsed,
      parts: run.budget.spent,
      files: { ...report.files, plots },
    };
    await writeWhole(join(options.out, 'report.json'), `${JSON.stringify(whole, undefined, 2)}\n`);
    return whole;
  } finally {
    if (!hooks.device) device.destroy();
  }
}

/** Software adapters run a quarter faster without checks of every access, which our kernels do not need. */
async function openFor({ adapter, robust }: DemoOptions): Promise<Device> {
  const device = await openDevice({ adapter });
  if (robust || !device.info.software) return device;
  device.destroy();
  return await openDevice({ adapter, robust: false });
}

/** Saves in float32, so that the loaded model is the one that was measured. */
async function saveHybrid(folder: string, hybrid: HybridModel, teacherFolder: string): Promise<void> {
  const configJson = JSON.parse(await readFile(join(teacherFolder, 'config.json'), 'utf8')) as Record<string, unknown>;
  await saveModel(folder, hybrid, hybrid.spec, { configJson, companionsFrom: teacherFolder });
}

/** Samples and speeds of the teacher and the hybrid, and of the committed hybrid where there is one. */
async function showModels(run: DemoRun, teacher: HybridModel, hybrid: HybridModel) {
  const { options, recipe, data } = run;
  const tokenizer = await loadTokenizer(options.teacher);
  const settings = { prompt: options.prompt, tokens: recipe.sampleTokens, seed: options.seed };
  const sample = (model: CausalLM, at: number) => {
    run.progress(at, 'text');
    return sampleText(model, tokenizer, settings);
  };
  const samples = {
    prompt: options.prompt,
    temperature: SAMPLING.temperature,
    teacher: await sample(teacher, 0.1),
    hybrid: await sample(hybrid, 0.3),
  };
  const committed = await openCommitted(run.device, options.hybrid, tokenizer);
  const context =
    data.validation.find((document) => document.length > 2 * recipe.evaluationLength) ?? data.validation[0]!;
  const prompt = [...context.subarray(0, recipe.evaluationLength)];
  const [ofTeacher, ofHybrid] = [await rate(run, teacher, prompt, 0.5), await rate(run, hybrid, prompt, 0.6)];
  const shown = {
    samples: { ...samples, committed: committed && (await sample(committed, 0.7)) },
    committedLoss: committed && (await run.loss(committed, [0.8, 0.95])),
    decoding: {
      context: ofTeacher.context,
      tokens: ofTeacher.tokens,
      teacherTokensPerSecond: ofTeacher.tokensPerSecond,
      hybridTokensPerSecond: ofHybrid.tokensPerSecond,
    },
  };
  committed?.dispose();
  return shown;
}

function rate(run: DemoRun, model: CausalLM, prompt: readonly number[], at: number) {
  run.progress(at, 'decoding speed');
  return decodeRate(model, prompt, { tokens: run.recipe.sampleTokens });
}

/** The committed hybrid, or null where there is none or it speaks another vocabulary than the teacher. */
async function openCommitted(device: Device, folder: string, tokenizer: Tokenizer): Promise<HybridModel | null> {
  if (!(await stat(join(folder, 'config.json')).catch(() => undefined))) return null;
  const model = await loadModel(device, folder);
  if (model.vocabularySize >= tokenizer.vocabularySize) return model;
  model.dispose();
  return null;
}

function cacheSizes({ spec }: HybridModel): DemoReport['cache'] {
  const sizes = cacheReport({ transformer: spec.config, hybrid: spec.hybrid! });
  const contexts = [256, 2048, 16384, 131072].map((tokens) => ({
    tokens,
    teacherBytes: tokens * sizes.teacherBytesPerToken,
    hybridBytes: tokens * sizes.bytesPerToken + sizes.stateBytes,
  }));
  return { ...sizes, contexts };
}

function parameterCount(model: CausalLM): number {
  return [...model.namedParameters().values()].reduce((sum, { size }) => sum + size, 0);
}

function zebraVersion(): string {
  const require = createRequire(import.meta.url);
  return (require('@zebra/tensor/package.json') as { version: string }).version;
}

/** Writes a file whole or not at all. */
async function writeWhole(path: string, text: string): Promise<void> {
  const temporary = `${path}.${process.pid}.tmp`;
  await writeFile(temporary, text);
  await rename(temporary, path);
}
