import { mkdirSync, writeFileSync } from 'node:fs';
import { dirname, resolve } from 'node:path';
import { parseArgs } from 'node:util';
import { distillationLoss, distillLayers } from '@zebra/distill';
import type { HybridLayerKind, HybridModel } from '@zebra/runtime';
import { type AdapterChoice, openDevice, scope } from '@zebra/tensor';
import { packDocuments } from '@zebra/tensor/train';
import {
  dropBiases,
  dropNorms,
  foldBiases,
  foldEstimatedNormScales,
  foldIntoConvolution,
  foldingResidual,
  foldNormScales,
  foldNormWeights,
  type Preparation,
} from './folding.js';
import { layerInputs } from './inputs.js';
import { attentionOf, makeStudent, readWeights, type StudentOptions } from './students.js';
import { batchesOf, loadText, type QwenFamily, trainTeacher } from './teacher.js';

const USAGE = `npm run qwen -w @zebra/integration -- [--family qwen2|qwen3] [--steps N] [--ild N] [--seed N] [--json FILE] [--adapter NAME]

Trains a small Qwen2 and a small Qwen3 on the repository's corpus, and measures what becomes of Qwen2's biases and Qwen3's
norms when their attention is turned into MLA and Mamba2: KL to the teacher at once, and after the same steps of ILD.

  --steps    of the teachers' training (default 400)
  --ild      steps of layer-wise distillation of each student (default 60)`;

const { values } = parseArgs({
  options: {
    family: { type: 'string', multiple: true, default: ['qwen2', 'qwen3'] },
    steps: { type: 'string', default: '400' },
    ild: { type: 'string', default: '60' },
    seed: { type: 'string', default: '1' },
    json: { type: 'string' },
    adapter: { type: 'string', default: 'auto' },
    help: { type: 'boolean' },
  },
});
if (values.help) {
  console.log(USAGE);
  process.exit(0);
}
const [steps, ild, seed] = [values.steps, values.ild, values.seed].map(Number) as [number, number, number];

interface Choice {
  readonly name: string;
  readonly prepare: Preparation;
  readonly finish?: StudentOptions['finish'];
  /** Where it makes a difference. */
  readonly kinds: readonly HybridLayerKind[];
}

const BOTH: readonly HybridLayerKind[] = ['mla', 'mamba2'];
const CHOICES: Readonly<Record<QwenFamily, readonly Choice[]>> = {
  qwen2: [
    { name: 'biases dropped', prepare: dropBiases, kinds: BOTH },
    { name: 'biases folded into the matrices by least squares', prepare: foldBiases, kinds: BOTH },
    { name: 'biases folded into conv1d.bias', prepare: dropBiases, finish: foldIntoConvolution, kinds: ['mamba2'] },
  ],
  qwen3: [
    { name: 'norms dropped', prepare: dropNorms, kinds: BOTH },
    { name: "norms' weights folded into the rows", prepare: foldNormWeights, kinds: BOTH },
    { name: "norms' weights and mean scales folded into the rows", prepare: foldNormScales, kinds: BOTH },
    { name: "norms' weights and scales estimated from weights", prepare: foldEstimatedNormScales, kinds: BOTH },
  ],
};
const RANKS = { qLoraRank: 48, kvLoraRank: 24 };
/** Learning rate of ILD; the demo's for models of this size. */
const ILD_RATE = 1e-2;

const device = await openDevice({ adapter: values.adapter as AdapterChoice });
const adapter = device.info.description || device.info.vendor;
console.log(`on ${adapter}; ${steps} steps of training, ${ild} of ILD, seed ${seed}`);
const text = loadText();
const rows: object[] = [];

for (const family of (['qwen2', 'qwen3'] as const).filter((name) => values.family.includes(name))) {
  const { teacher, nats, parameters } = await trainTeacher(device, family, text, { steps, seed });
  console.log(`\n${family}: ${parameters} parameters, ${nats.toFixed(3)} nats a token on validation`);
  const inputs = await layerInputs(teacher, batchesOf(device, text.calibration));
  const given = await readWeights(teacher);
  if (family === 'qwen2') describeBiases(given, inputs);
  const layers = teacher.spec.config.layerCount;
  for (const kind of BOTH) {
    for (const { name, prepare, finish, kinds } of CHOICES[family]) {
      if (!kinds.includes(kind)) continue;
      const { model } = await makeStudent(teacher, {
        ...RANKS,
        layers: new Array<HybridLayerKind>(layers).fill(kind),
        prepare: (layer, attention) => prepare(attention, inputs[layer]!),
        ...(finish && { finish }),
      });
      const before = await divergence(teacher, model);
      let first = Number.NaN;
      let last = Number.NaN;
      const data = packDocuments(text.train, { batchSize: 4, length: 128, seed: seed + 5, boundaries: 'reset' });
      for await (const { loss } of distillLayers({
        teacher,
        student: model,
        data,
        steps: ild,
        learningRate: ILD_RATE,
      })) {
        if (Number.isNaN(first)) first = loss;
        last = loss;
      }
      const after = await divergence(teacher, model);
      console.log(
        `  ${kind.padEnd(7)} ${name.padEnd(52)} KL ${before.toFixed(3)} at once, ${after.toFixed(3)} after ILD (loss ${first.toFixed(1)} → ${last.toFixed(1)})`,
      );
      rows.push({ family, kind, choice: name, before, after, ildFirst: first, ildLast: last });
      model.dispose();
    }
  }
  teacher.dispose();
}

if (values.json) {
  const file = resolve(process.env.INIT_CWD ?? process.cwd(), values.json);
  mkdirSync(dirname(file), { recursive: true });
  writeFileSync(file, `${JSON.stringify({ adapter, steps, ild, seed, rows }, undefined, 2)}\n`);
}
device.destroy();
process.exit(0);

/** KL(teacher‖student) in nats a token over validation text. */
async function divergence(teacher: HybridModel, student: HybridModel): Promise<number> {
  let sum = 0;
  const batches = batchesOf(device, text.validation);
  for (const batch of batches) {
    using loss = scope(() => distillationLoss(teacher, student, batch));
    sum += await loss.item();
    for (const owned of Object.values(batch)) owned.dispose();
  }
  return sum / batches.length;
}

function describeBiases(
  given: Awaited<ReturnType<typeof readWeights>>,
  inputs: Awaited<ReturnType<typeof layerInputs>>,
) {
  const rms = (values: ArrayLike<number>) =>
    Math.sqrt(Array.from(values).reduce((sum, value) => sum + value * value, 0) / values.length);
  inputs.forEach((input, layer) => {
    const attention = attentionOf(given, layer);
    const sizes = ['q', 'k', 'v'].map((letter) => rms(attention[`${letter}_proj.bias`]!.data).toFixed(2));
    console.log(
      `  layer ${layer}: rms of biases q, k, v ${sizes.join(', ')}; folding leaves ${foldingResidual(input).toFixed(3)}`,
    );
  });
}
