import { readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { parseArgs } from 'node:util';
import { distillLayers } from '@zebra/distill';
import { HybridModel, loadModel, modelSpec, modelSpecs, parseTransformerConfig, perplexity } from '@zebra/runtime';
import { cosineSchedule, crossEntropy, type Device, keep, openDevice, Random, tensor } from '@zebra/tensor';
import { packDocuments, train } from '@zebra/tensor/train';
import { loadData, pieces, sampleOf } from './src/data.js';
import {
  buildModel,
  chooseMla,
  type HostWeights,
  hybridSpec,
  initialiseStudent,
  type QwenChoice,
  readWeights,
} from './src/students.js';

const USAGE = `Compares what may become of a Qwen's biases and query and key norms when its attention is converted. The
teachers are made of the committed Llama: random biases (Qwen2) or norms (Qwen3) are put in and all is trained on.

  node --conditions=@zebra/source --import tsx examples/convert/qwen-choices.ts [options]

  --teacher-steps N  steps of 4 rows that the teachers are trained on for (default 200)
  --steps A,B        budgets of intermediate-layer distillation (default 40,160)
  --rows N --length N --rate X --mixer-weight X   of that distillation (default 2, 128, 1e-2, 1)
  --seeds A,B        orders of the training text (default 1)
  --tokens N         validation tokens (default 16384)
  --teacher DIR      default: the one in examples/train-teacher/teacher
  --adapter auto|hardware|software|swiftshader   default auto`;

const EVALUATION_LENGTH = 256;
type Kind = 'mla' | 'mamba2';

/** For each family the students: kind of layers and choice. */
const STUDENTS: Readonly<Record<'qwen2' | 'qwen3', readonly (readonly [kind: Kind, name: string, QwenChoice])[]>> = {
  qwen2: [
    ['mla', 'biases dropped', {}],
    ['mamba2', 'biases dropped', { biases: 'drop' }],
    ['mamba2', 'biases folded into the convolution', { biases: 'fold' }],
  ],
  qwen3: [
    ['mla', "norms' weights folded", { queryKeyNorm: 'folded' }],
    ['mla', 'and heads over their expected size', { queryKeyNorm: 'scaled' }],
    ['mamba2', "norms' weights folded", { queryKeyNorm: 'folded' }],
    ['mamba2', 'and heads over their expected size', { queryKeyNorm: 'scaled' }],
  ],
};

const { values } = parseArgs({
  options: {
    'teacher-steps': { type: 'string', default: '200' },
    steps: { type: 'string', default: '40,160' },
    rows: { type: 'string', default: '2' },
    length: { type: 'string', default: '128' },
    rate: { type: 'string', default: '1e-2' },
    'mixer-weight': { type: 'string', default: '1' },
    seeds: { type: 'string', default: '1' },
    tokens: { type: 'string', default: '16384' },
    teacher: { type: 'string', default: fileURLToPath(new URL('../train-teacher/teacher', import.meta.url)) },
    adapter: { type: 'string', default: 'auto' },
    help: { type: 'boolean', default: false },
  },
});
if (values.help) console.log(USAGE);
else await compare();
// Dawn would keep the process alive; what was written must be out first.
process.stdout.write('', () => process.exit());

async function compare(): Promise<void> {
  const numbers = (text: string) => text.split(',').map(Number);
  const device = await openDevice({ adapter: values.adapter as 'auto' });
  const data = loadData({ tokenizerFolder: values.teacher, trainTokens: device.info.software ? 400_000 : 8_000_000 });
  const validation = sampleOf(data.validation, { length: EVALUATION_LENGTH, tokens: Number(values.tokens), seed: 1 });
  const shape = { batchSize: device.info.software ? 8 : 64, length: EVALUATION_LENGTH };
  const lossOf = async (model: HybridModel) => (await perplexity(model, validation, shape)).nats;
  const [batchSize, length] = [Number(values.rows), Number(values.length)];
  const batches = (rows: number, tokens: number, seed: number) => {
    const documents = data.train.flatMap((document) => pieces(document, tokens));
    return packDocuments(documents, { batchSize: rows, length: tokens, seed, boundaries: 'reset' });
  };
  console.log(device.info.description);
  for (const family of ['qwen2', 'qwen3'] as const) {
    using teacher = await makeTeacher(device, family);
    const before = await lossOf(teacher);
    await trainOn(device, teacher, batches(4, EVALUATION_LENGTH, 9));
    console.log(
      `${family}: teacher ${(await lossOf(teacher)).toFixed(4)} nats (${before.toFixed(4)} before its training)`,
    );
    const weights = await readWeights(teacher);
    for (const [kind, name, qwen] of STUDENTS[family]) {
      const mla = chooseMla(teacher.spec, 'frequency-aware');
      const spec = hybridSpec(
        teacher.spec,
        teacher.spec.layers.map(() => kind),
        mla,
      );
      const initial = initialiseStudent(teacher.spec, weights, spec, { mla, seed: 1, qwen });
      using start = buildModel(device, spec, initial);
      console.log(`  ${kind}, ${name}: at the start ${(await lossOf(start)).toFixed(4)}`);
      for (const steps of numbers(values.steps)) {
        for (const seed of numbers(values.seeds)) {
          using student = buildModel(device, spec, initial);
          const run = distillLayers({
            teacher,
            student,
            data: batches(batchSize, length, seed),
            steps,
            warmUp: Math.max(2, Math.round(0.05 * steps)),
            learningRate: Number(values.rate),
            mixerWeight: Number(values['mixer-weight']),
          });
          for await (const _ of run);
          console.log(`    ${steps} steps, seed ${seed}: ${(await lossOf(student)).toFixed(4)}`);
        }
      }
    }
  }
}

/** The committed teacher with random biases, or with norms about as large as its queries and keys are. */
async function makeTeacher(device: Device, family: 'qwen2' | 'qwen3'): Promise<HybridModel> {
  const { attention_bias: _, ...config } = JSON.parse(await readFile(join(values.teacher, 'config.json'), 'utf8'));
  const spec = modelSpec(parseTransformerConfig({ ...config, model_type: family }));
  using llama = await loadModel(device, values.teacher);
  const old = await readWeights(llama);
  const random = new Random(5);
  const weights = [...modelSpecs(spec)].map(([name, shape]) => {
    const data =
      old.get(name)?.data.slice() ?? Float32Array.from({ length: shape[0]! }, () => added(name, old, random));
    // A Qwen3 does not mind how large its queries and keys are: its norms take that out. So heads of any size occur.
    if (family === 'qwen3' && /[qk]_proj/.test(name)) scaleHeads(data, spec.config.headDim * shape[1]!, random);
    return [name, keep(tensor(device, data, shape))] as const;
  });
  return new HybridModel(device, spec, new Map(weights));
}

/** Multiplies every head by a factor from 1/4 to 4. */
function scaleHeads(data: Float32Array | Float64Array, size: number, random: Random): void {
  for (let start = 0; start < data.length; start += size) {
    const factor = 4 ** (2 * random.uniform() - 1);
    for (let i = start; i < start + size; i++) data[i]! *= factor;
  }
}

/** One entry of a parameter that a Llama does not have. */
function added(name: string, weights: HostWeights, random: Random): number {
  // Queries and keys of the committed teacher are about 1 in size, values 0.1 to 1.6.
  if (name.endsWith('.bias')) return random.normal() * (name.includes('v_proj') ? 0.3 : 1);
  const projection = weights.get(name.replace(/([qk])_norm/, '$1_proj'))!.data;
  const inputs = weights.get(name.replace(/self_attn\..*/, 'input_layernorm.weight'))!.data;
  let squares = 0;
  projection.forEach((w, i) => {
    squares += (w * inputs[i % inputs.length]!) ** 2;
  });
  return Math.sqrt((squares / projection.length) * inputs.length) * (0.5 + random.uniform());
}

async function trainOn(device: Device, model: HybridModel, data: ReturnType<typeof packDocuments>): Promise<void> {
  const steps = Number(values['teacher-steps']);
  const run = train({
    device,
    parameters: model.namedParameters(),
    loss: ({ ids, targets, positions, segments }) =>
      crossEntropy({
        hidden: model.forward(ids!, { positions: positions!, segments: segments! }),
        head: model.headWeight,
        targets: targets!,
      }),
    data,
    steps,
    learningRate: 1e-3,
    schedule: cosineSchedule({ steps, warmUp: 0.05 }),
    optimizer: { maxGradientNorm: 1 },
  });
  for await (const _ of run);
}
