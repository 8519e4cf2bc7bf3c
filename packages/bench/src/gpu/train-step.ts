// The training and the distillation step of a 1B shape on a GPU, with random weights: tokens a second, memory, and where
// the time goes. `--small` runs a small model on any adapter, `--profile` prints the kernels.
import { parseArgs } from 'node:util';
import { HybridModel, modelSpec, parseTransformerConfig, presetHybridConfig, presets } from '@zebra/runtime';
import { AdamW, crossEntropy, fill, klDivergence, openDevice, scope, tensor, valueAndGradients } from '@zebra/tensor';
import { randomIds } from '../benchmarks/inputs.js';
import { randomWeights } from './random-weights.js';

const { values } = parseArgs({
  options: {
    small: { type: 'boolean', default: false },
    profile: { type: 'boolean', default: false },
    work: { type: 'string', default: 'train,distil' },
    rows: { type: 'string', default: '4' },
    length: { type: 'string', default: '2048' },
    steps: { type: 'string', default: '6' },
    dtype: { type: 'string', default: 'float16' },
    checkpoint: { type: 'boolean', default: false },
  },
});
const { small } = values;
const [rows, length, steps] = [values.rows, values.length, values.steps].map(Number) as [number, number, number];
const computeDType = values.dtype as 'float16' | 'float32';
const GIB = 2 ** 30;

const preset = presets['Zebra-Llama-1B-4MLA-12Mamba'];
const SMALL = {
  model_type: 'llama',
  vocab_size: 512,
  hidden_size: 64,
  intermediate_size: 128,
  num_hidden_layers: 2,
  num_attention_heads: 4,
  num_key_value_heads: 2,
  head_dim: 16,
  rms_norm_eps: 1e-5,
  rope_theta: 10000,
  max_position_embeddings: 4096,
  tie_word_embeddings: true,
};
const config = small ? parseTransformerConfig(SMALL) : preset.base.config;
const options = { maxPositions: length, computeDType };

const device = await openDevice(small ? {} : { adapter: 'hardware' });
console.log(`${device.info.description}: ${rows}x${length}, ${computeDType}, checkpoint ${values.checkpoint}`);

const [ids, targets] = [1, 2].map((seed) =>
  tensor(device, randomIds([rows, length], config.vocabularySize, seed), [rows, length]),
);

/** Captures a step, runs it, and prints what it took. */
async function measure(name: string, model: HybridModel, loss: () => ReturnType<typeof crossEntropy>): Promise<void> {
  const parameters = model.namedParameters();
  const optimizer = new AdamW(parameters);
  const scale = fill(device, [1], 2 ** 14);
  const begun = performance.now();
  const program = device.capture(() =>
    scope(() => {
      const { value, gradients } = valueAndGradients(loss, parameters, { seed: scale });
      optimizer.apply(gradients);
      for (const gradient of gradients.values()) gradient.dispose();
      return value;
    }),
  );
  optimizer.prepare(1e-5);
  program.run();
  const first = await program.result.item();
  console.log(`${name}: captured and first run in ${((performance.now() - begun) / 1000).toFixed(1)} s`);
  const times: number[] = [];
  // The first two are slower: the clock rises, and memory is touched for the first time.
  for (let i = -2; i < steps; i++) {
    optimizer.prepare(1e-5);
    await device.synchronize();
    const start = performance.now();
    program.run();
    await device.synchronize();
    if (i >= 0) times.push(performance.now() - start);
  }
  const last = await program.result.item();
  const { dispatches, workspaceBytes, unsharedBytes } = program.statistics;
  const { liveBytes } = device.statistics();
  times.sort((a, b) => a - b);
  const median = times[Math.floor(times.length / 2)]!;
  const gib = (bytes: number) => (bytes / GIB).toFixed(2);
  console.log(
    `${name}: ${median.toFixed(1)} ms (${times[0]!.toFixed(1)}-${times.at(-1)!.toFixed(1)}), ${((rows * length * 1000) / median).toFixed(0)} tokens/s, ` +
      `${dispatches} dispatches, workspace ${gib(workspaceBytes)} of ${gib(unsharedBytes)} GiB, live ${gib(liveBytes)} GiB, loss ${first.toFixed(4)} -> ${last.toFixed(4)}`,
  );
  if (values.profile) {
    for (const { name: kernel, dispatches: count, milliseconds } of (await program.profile()).slice(0, 32))
      console.log(`  ${kernel.padEnd(34)} ${String(count).padStart(5)} ${milliseconds.toFixed(2).padStart(9)} ms`);
  }
  program.result.dispose();
  program.dispose();
  optimizer.dispose();
  scale.dispose();
  device.trim();
}

const work = values.work.split(',');
const teacherSpec = modelSpec(config, undefined, options);
if (work.includes('train')) {
  using model = new HybridModel(device, teacherSpec, randomWeights(device, teacherSpec));
  const hidden = () => model.forward(ids!, { checkpointLayers: values.checkpoint });
  await measure('train step', model, () =>
    crossEntropy({ hidden: hidden(), head: model.headWeight, targets: targets! }),
  );
}
if (work.includes('distil') && !small) {
  const spec = modelSpec(config, presetHybridConfig('Zebra-Llama-1B-4MLA-12Mamba'), options);
  const weightDType = computeDType;
  using teacher = new HybridModel(device, teacherSpec, randomWeights(device, teacherSpec, { matrices: weightDType }));
  using student = new HybridModel(device, spec, randomWeights(device, spec));
  await measure('distillation step', student, () =>
    klDivergence({
      teacher: { hidden: teacher.forward(ids!), head: teacher.headWeight },
      student: { hidden: student.forward(ids!, { checkpointLayers: values.checkpoint }), head: student.headWeight },
    }),
  );
}
device.destroy();
