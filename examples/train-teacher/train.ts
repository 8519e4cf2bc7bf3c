import { mkdir, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { parseArgs } from 'node:util';
import { HybridModel, modelSpec, modelSpecs, parseTransformerConfig, saveModel } from '@zebra/runtime';
import { type AdapterChoice, cosineSchedule, crossEntropy, openDevice } from '@zebra/tensor';
import { appendMetrics, packDocuments, train } from '@zebra/tensor/train';
import { TEACHER_CONFIG } from './src/config.js';
import { meanLoss } from './src/evaluate.js';
import { freshWeights } from './src/fresh-weights.js';
import { readTokenSplit } from './src/token-files.js';

const USAGE = `Trains the teacher from scratch.

  --out DIR        where model, metrics and checkpoint go (default out/teacher)
  --tokens DIR     token files written by the corpus example's export command; else the corpora are read and tokenised
  --tokenizer DIR  tokenizer to tokenise with and to put beside the model (default examples/corpus/tokenizer)
  --steps N --batch ROWS --length TOKENS --rate LR --decay WD --seed N
  --adapter auto|hardware|software|swiftshader
  --resume         go on from the checkpoint in --out`;

const { values } = parseArgs({
  options: {
    out: { type: 'string', default: 'out/teacher' },
    tokens: { type: 'string' },
    tokenizer: { type: 'string', default: 'examples/corpus/tokenizer' },
    steps: { type: 'string', default: '20000' },
    batch: { type: 'string', default: '32' },
    length: { type: 'string', default: '256' },
    rate: { type: 'string', default: '4e-3' },
    decay: { type: 'string', default: '0.1' },
    seed: { type: 'string', default: '1' },
    adapter: { type: 'string', default: 'auto' },
    resume: { type: 'boolean', default: false },
    help: { type: 'boolean', default: false },
  },
});
if (values.help) {
  console.log(USAGE);
  process.exit(0);
}
const steps = Number(values.steps);
const [batchSize, length, seed] = [Number(values.batch), Number(values.length), Number(values.seed)];

const device = await openDevice({ adapter: values.adapter as AdapterChoice });
const data = await loadData();
const spec = modelSpec(parseTransformerConfig(TEACHER_CONFIG));
const model = new HybridModel(device, spec, freshWeights(device, modelSpecs(spec), spec.layers.length, seed));
const parameterCount = [...model.namedParameters().values()].reduce((total, parameter) => total + parameter.size, 0);
console.log(
  `${parameterCount} parameters on ${device.info.description || device.info.vendor}; ${data.train.length} documents`,
);

await mkdir(values.out, { recursive: true });
const metrics = await appendMetrics(join(values.out, 'metrics.jsonl'));
const begun = Date.now();
const run = train({
  device,
  parameters: model.namedParameters(),
  loss: ({ ids, targets, positions, segments }) =>
    crossEntropy({
      hidden: model.forward(ids!, { positions: positions!, segments: segments! }),
      head: model.headWeight,
      targets: targets!,
    }),
  data: packDocuments(data.train, { batchSize, length, seed, vocabularySize: TEACHER_CONFIG.vocab_size }),
  steps,
  learningRate: Number(values.rate),
  schedule: cosineSchedule({ steps, warmUp: 0.02, final: 0.02 }),
  optimizer: {
    weightDecay: Number(values.decay),
    decays: (_, parameter) => parameter.shape.length > 1,
    maxGradientNorm: 1,
  },
  evaluate: {
    every: Math.max(200, Math.ceil(steps / 10)),
    run: async () => ({ validation: (await meanLoss(device, model, data.sample, { batchSize, length })).nats }),
  },
  checkpoint: { folder: values.out, every: Math.max(100, Math.ceil(steps / 20)), overwrite: true },
  resume: values.resume,
});
let smooth: number | undefined;
for await (const metric of run) {
  await metrics.write(metric);
  smooth = smooth === undefined ? metric.loss : 0.98 * smooth + 0.02 * metric.loss;
  if (metric.step % 50 === 0 || metric.evaluation)
    report(metric.step, smooth, metric.tokensPerSecond, metric.evaluation);
}
await metrics.close();

const validation = await meanLoss(device, model, data.validation, { batchSize, length });
const test = await meanLoss(device, model, data.test, { batchSize, length });
const minutes = (Date.now() - begun) / 60_000;
await saveModel(values.out, model, spec, {
  configJson: TEACHER_CONFIG,
  dtype: 'float16',
  companionsFrom: values.tokenizer,
});
const summary = {
  parameters: parameterCount,
  adapter: device.info.description || device.info.vendor,
  steps,
  batchSize,
  length,
  seed,
  learningRate: Number(values.rate),
  weightDecay: Number(values.decay),
  minutes,
  trainedTokens: steps * batchSize * length,
  validation,
  test,
};
await writeFile(join(values.out, 'training.json'), `${JSON.stringify(summary, undefined, 2)}\n`);
console.log(JSON.stringify(summary));
model.dispose();
device.destroy();
process.exit(0);

/** Train, validation and test documents, and a sample of the validation split for the run's own curve. */
async function loadData() {
  const splits = values.tokens
    ? await Promise.all(
        ['train', 'validation', 'test'].map(
          async (name) => (await readTokenSplit(values.tokens as string, name)).documents,
        ),
      )
    : await tokenised();
  const [trainSplit, validationSplit, testSplit] = splits as [
    readonly Uint16Array[],
    readonly Uint16Array[],
    readonly Uint16Array[],
  ];
  return { train: trainSplit, validation: validationSplit, test: testSplit, sample: prefix(validationSplit, 30_000) };
}

async function tokenised(): Promise<(readonly Uint16Array[])[]> {
  const { loadTokenized } = await import('zebra-example-corpus');
  const { splits } = loadTokenized({
    tokenizerFolder: values.tokenizer,
    splits: ['train', 'validation', 'test'],
    cacheDir: 'out/cache',
  });
  return [splits.train.documents, splits.validation.documents, splits.test.documents].map((documents) => [
    ...documents,
  ]);
}

/** The first documents, until they hold so many tokens; speeches that alone hold more are left out. */
function prefix(documents: readonly Uint16Array[], tokens: number): readonly Uint16Array[] {
  const chosen: Uint16Array[] = [];
  let held = 0;
  for (const document of documents) {
    if (held >= tokens) break;
    if (document.length > tokens / 4) continue;
    chosen.push(document);
    held += document.length;
  }
  return chosen;
}

function report(
  step: number,
  loss: number,
  rate: number | undefined,
  evaluation: Readonly<Record<string, number>> | undefined,
): void {
  const left = ((Date.now() - begun) / 60_000 / step) * (steps - step);
  const validationText = evaluation ? `  validation ${evaluation['validation']?.toFixed(4)}` : '';
  console.log(
    `${step}/${steps}  loss ${loss.toFixed(4)}  ${rate?.toFixed(0)} tokens/s  ${left.toFixed(1)} min left${validationText}`,
  );
}
