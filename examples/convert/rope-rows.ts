import { fileURLToPath } from 'node:url';
import { parseArgs } from 'node:util';
import { distillLayers } from '@zebra/distill';
import { loadModel, perplexity } from '@zebra/runtime';
import { openDevice } from '@zebra/tensor';
import { packDocuments } from '@zebra/tensor/train';
import { loadData, pieces, sampleOf } from './src/data.js';
import { buildModel, chooseMla, hybridSpec, initialiseStudent, type MlaChoice, readWeights } from './src/students.js';

const USAGE = `Compares the choices of rotary rows at the initialisation of MLA layers, on the committed teacher with every
layer MLA: validation loss right after initialisation, and after the same budget of intermediate-layer distillation.

  node --conditions=@zebra/source --import tsx examples/convert/rope-rows.ts [options]

  --steps A,B        budgets to compare, in optimizer steps (default 40,160; each is a run of its own, with its schedule)
  --rows N           rows of a batch (default 2)
  --length N         tokens of a row (default 128)
  --rate X           peak learning rate (default 1e-2)
  --mixer-weight X   weight of the mixers' outputs in the loss (default 1)
  --seeds A,B        orders of the training text (default 1,2)
  --tokens N         validation tokens (default 16384)
  --teacher DIR      default: the one in examples/train-teacher/teacher
  --adapter auto|hardware|software|swiftshader   default auto

On a GPU, the full recipe's budget: --steps 100,1500 --rows 32 --length 256 --rate 3e-3 --mixer-weight 0 --tokens 131072`;

/** The choices: name in the table, rows, shared key. */
const CHOICES: readonly (readonly [name: string, choice: Pick<MlaChoice, 'ropeRows' | 'sharedRopeKey'>])[] = [
  ['last rows, mean key (the reference)', { ropeRows: 'last' }],
  ['matched frequencies, mean key', { ropeRows: 'frequency-aware', sharedRopeKey: 'mean' }],
  ['matched frequencies, aligned keys', { ropeRows: 'frequency-aware', sharedRopeKey: 'aligned' }],
];

/** Tokens of an evaluation row: what the teacher was trained with. */
const EVALUATION_LENGTH = 256;

const { values } = parseArgs({
  options: {
    steps: { type: 'string', default: '40,160' },
    rows: { type: 'string', default: '2' },
    length: { type: 'string', default: '128' },
    rate: { type: 'string', default: '1e-2' },
    'mixer-weight': { type: 'string', default: '1' },
    seeds: { type: 'string', default: '1,2' },
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
  const teacher = await loadModel(device, values.teacher);
  const data = loadData({ tokenizerFolder: values.teacher, trainTokens: device.info.software ? 400_000 : 8_000_000 });
  const validation = sampleOf(data.validation, { length: EVALUATION_LENGTH, tokens: Number(values.tokens), seed: 1 });
  const shape = { batchSize: device.info.software ? 8 : 64, length: EVALUATION_LENGTH };
  const weights = await readWeights(teacher);
  const [batchSize, length] = [Number(values.rows), Number(values.length)];
  const rows = data.train.flatMap((document) => pieces(document, length));
  const allMla = teacher.spec.layers.map(() => 'mla' as const);

  console.log(
    `${device.info.description}; teacher ${(await perplexity(teacher, validation, shape)).nats.toFixed(4)} nats`,
  );
  for (const [name, choice] of CHOICES) {
    const mla = { ...chooseMla(teacher.spec, choice.ropeRows), ...choice };
    const spec = hybridSpec(teacher.spec, allMla, mla);
    const initial = initialiseStudent(teacher.spec, weights, spec, { mla, seed: 1 });
    using start = buildModel(device, spec, initial);
    console.log(`${name}: at the start ${(await perplexity(start, validation, shape)).nats.toFixed(4)}`);
    for (const steps of numbers(values.steps)) {
      for (const seed of numbers(values.seeds)) {
        using student = buildModel(device, spec, initial);
        let loss = Number.NaN;
        const metrics = distillLayers({
          teacher,
          student,
          data: packDocuments(rows, { batchSize, length, seed, boundaries: 'reset' }),
          steps,
          warmUp: Math.max(2, Math.round(0.05 * steps)),
          learningRate: Number(values.rate),
          mixerWeight: Number(values['mixer-weight']),
        });
        for await (const metric of metrics) loss = metric.loss;
        const { nats } = await perplexity(student, validation, shape);
        console.log(`  ${steps} steps, seed ${seed}: ${nats.toFixed(4)} (last ILD loss ${loss.toFixed(3)})`);
      }
    }
  }
}
