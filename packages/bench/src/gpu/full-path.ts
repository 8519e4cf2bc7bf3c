// A 1B-shape Llama the whole way: written with random bfloat16 weights, loaded, converted to the published placement of
// four MLA layers, distilled, saved, loaded again in a new process, held to the same logits, and made to speak.
//   full-path.mjs FOLDER [--small]
import { spawnSync } from 'node:child_process';
import { mkdir, readFile, stat, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { generate, HybridModel, loadModel, modelSpec, parseTransformerConfig, saveModel } from '@zebra/runtime';
import { type Device, matmul, openDevice, scope, tensor } from '@zebra/tensor';
import { convertModel, readOptions, Stages } from 'zebra-example-convert-model';
import { randomIds } from '../benchmarks/inputs.js';
import { randomWeights } from './random-weights.js';

const args = process.argv.slice(2);
const small = args.includes('--small');
const phase = args.includes('--phase') ? args[args.indexOf('--phase') + 1] : 'all';
const folder = args.find((arg, i) => !arg.startsWith('--') && args[i - 1] !== '--phase');
if (!folder) throw new Error('full-path: expected a folder with 15 GB of room');
const paths = {
  teacher: join(folder, 'teacher'),
  hybrid: join(folder, 'hybrid'),
  ids: join(folder, 'ids.bin'),
  logits: join(folder, 'logits.bin'),
};

const LLAMA = {
  model_type: 'llama',
  hidden_act: 'silu',
  vocab_size: 128256,
  hidden_size: 2048,
  intermediate_size: 8192,
  num_hidden_layers: 16,
  num_attention_heads: 32,
  num_key_value_heads: 8,
  head_dim: 64,
  rms_norm_eps: 1e-5,
  rope_theta: 500000,
  max_position_embeddings: 131072,
  tie_word_embeddings: true,
  rope_scaling: {
    rope_type: 'llama3',
    factor: 32,
    low_freq_factor: 1,
    high_freq_factor: 4,
    original_max_position_embeddings: 8192,
  },
};
const CONFIG = small
  ? {
      ...LLAMA,
      vocab_size: 512,
      hidden_size: 64,
      intermediate_size: 128,
      num_hidden_layers: 4,
      num_attention_heads: 4,
      num_key_value_heads: 2,
      head_dim: 16,
    }
  : LLAMA;
const [rows, length, steps] = small ? [2, 64, 4] : [4, 2048, 20];
const config = parseTransformerConfig(CONFIG);
const log = (line: string) => console.log(line);

/** Logits of 64 tokens, float32 bytes. */
async function logitsOf(device: Device, model: HybridModel): Promise<Uint8Array> {
  using logits = scope(() => {
    const ids = tensor(device, randomIds([1, 64], config.vocabularySize, 9), [1, 64]);
    return matmul(model.forward(ids), model.headWeight, { transposeB: true, halves: true, dtype: 'float32' });
  });
  const values = (await logits.read()) as Float32Array;
  if (!values.every(Number.isFinite)) throw new Error('full-path: logits are not finite');
  return new Uint8Array(values.buffer, values.byteOffset, values.byteLength);
}

async function writeTeacher(): Promise<void> {
  const device = await openDevice();
  const stages = new Stages(device, log);
  const spec = modelSpec(config);
  using teacher = new HybridModel(device, spec, randomWeights(device, spec));
  await stages.run('write the teacher', () =>
    saveModel(paths.teacher, teacher, spec, { configJson: CONFIG, dtype: 'bfloat16' }),
  );
  // Documents of the rows' length: random tokens, as the weights are.
  const ids = randomIds([8 * rows, length + 1], config.vocabularySize, 3);
  for (let row = 0; row < 8 * rows; row++) ids[row * (length + 1) + length] = -1;
  await writeFile(paths.ids, ids);
  device.destroy();
}

async function convert(): Promise<void> {
  const placement = small ? ['--mla-layers', '0,2'] : ['--preset', 'Zebra-Llama-1B-4MLA-12Mamba'];
  const size = ['--rows', String(rows), '--length', String(length), '--steps', String(steps)];
  const options = readOptions([
    paths.teacher,
    ...['--out', paths.hybrid, '--ids', paths.ids, '--compute', 'float16'],
    // Every bit of the student is saved, so that what is loaded must give the same logits to the bit.
    ...['--save', 'float32', '--learning-rate', small ? '1e-3' : '8e-5'],
    ...placement,
    ...size,
  ])!;
  await convertModel(options, log, {
    inspect: async (student) => writeFile(paths.logits, await logitsOf(student.device, student)),
  });
}

async function reload(): Promise<void> {
  const device = await openDevice();
  const stages = new Stages(device, log);
  {
    using model = await stages.run('load again', () => loadModel(device, paths.hybrid, { computeDType: 'float16' }));
    const same = Buffer.from(await logitsOf(device, model)).equals(await readFile(paths.logits));
    log(`${same ? 'ok' : 'FAIL'}: the same logits to the bit in a new process`);
  }
  using model = await stages.run('load in float16', () => loadModel(device, paths.hybrid, { dtype: 'float16' }));
  await stages.run(
    'generate 200 tokens',
    async () => {
      const begun = performance.now();
      let count = 0;
      let first = 0;
      for await (const { tokens } of generate(model, [[...randomIds([16], config.vocabularySize, 5)]], {
        maxNewTokens: 200,
        temperature: 0,
      })) {
        if (count === 0) first = performance.now();
        count += tokens.length;
      }
      return { count, first: first - begun, rate: ((count - 1) * 1000) / (performance.now() - first) };
    },
    ({ count, first, rate }) => ({ tokens: count, firstMilliseconds: first, tokensPerSecond: rate }),
  );
  device.destroy();
}

await mkdir(folder, { recursive: true });
if (phase === 'teacher') await writeTeacher();
else if (phase === 'convert') await convert();
else if (phase === 'reload') await reload();
else {
  // A process each, as a user would.
  for (const part of ['teacher', 'convert', 'reload']) {
    const more = small ? ['--small'] : [];
    const { status } = spawnSync(
      process.execPath,
      [...process.execArgv, process.argv[1]!, folder, '--phase', part, ...more],
      { stdio: 'inherit' },
    );
    if (status !== 0) process.exit(status ?? 1);
  }
  const { size } = await stat(join(paths.hybrid, 'report.json'));
  log(`report.json: ${size} bytes\n${await readFile(join(paths.hybrid, 'report.json'), 'utf8')}`);
}
