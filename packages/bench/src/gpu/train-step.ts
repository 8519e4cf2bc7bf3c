// The training and the distillation step of a published hybrid's shape (`--preset`, default 1B) on a GPU, with random
// weights: tokens a second, memory, and where the time goes. `--small` runs a small model on any adapter, `--profile`
// prints the kernels.
import { spawnSync } from 'node:child_process';
import { parseArgs } from 'node:util';
import { HybridModel, modelSpec } from '@zebra/runtime';
import { crossEntropy, memoryReport, openDevice, type Tensor, tensor } from '@zebra/tensor';
import { randomIds } from '../benchmarks/inputs.js';
import { hybridConfig, llamaConfig, presetNamed } from '../benchmarks/models.js';
import { distillation, recordStep } from '../benchmarks/step.js';
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
    preset: { type: 'string', default: 'Zebra-Llama-1B-4MLA-12Mamba' },
  },
});
const { small } = values;
const [rows, length, steps] = [values.rows, values.length, values.steps].map(Number) as [number, number, number];
const computeDType = values.dtype as 'float16' | 'float32';
const GIB = 2 ** 30;

const preset = presetNamed(values.preset);
const config = llamaConfig(!small, preset);
const options = { maxPositions: length, computeDType };

const device = await openDevice(small ? {} : { adapter: 'hardware' });
console.log(`${device.info.description}: ${rows}x${length}, ${computeDType}, checkpoint ${values.checkpoint}`);

/** MiB of the card in use as its driver says; undefined without an NVIDIA card. */
function driverMemory(): number | undefined {
  const { stdout } = spawnSync('nvidia-smi', ['--query-gpu=memory.used', '--format=csv,noheader,nounits']);
  const used = Number.parseInt(String(stdout), 10);
  return Number.isFinite(used) ? used : undefined;
}

/** What an open device without tensors takes. */
const idle = driverMemory();

const [ids, targets] = [1, 2].map((seed) =>
  tensor(device, randomIds([rows, length], config.vocabularySize, seed), [rows, length]),
);

/** Captures a step, runs it, and prints what it took. */
async function measure(name: string, model: HybridModel, loss: () => Tensor): Promise<void> {
  const begun = performance.now();
  const step = recordStep(device, model, loss);
  const { program, lossScale } = step;
  step.run(1e-5);
  const first = await program.result.item();
  console.log(`${name}: captured and first run in ${((performance.now() - begun) / 1000).toFixed(1)} s`);
  const times: number[] = [];
  const hosts: number[] = [];
  // The first two are slower: the clock rises, and memory is touched for the first time.
  for (let i = -2; i < steps; i++) {
    await device.synchronize();
    const start = performance.now();
    step.run(1e-5);
    hosts.push(performance.now() - start);
    await device.synchronize();
    if (i >= 0) times.push(performance.now() - start);
  }
  const last = await program.result.item();
  const { dispatches, workspaceBytes, unsharedBytes } = program.statistics;
  const { liveBytes } = device.statistics();
  const middle = (list: number[]) => list.sort((a, b) => a - b)[Math.floor(list.length / 2)]!;
  const median = middle(times);
  const gib = (bytes: number) => (bytes / GIB).toFixed(2);
  console.log(
    `${name}: ${median.toFixed(1)} ms (${times[0]!.toFixed(1)}-${times.at(-1)!.toFixed(1)}), ${((rows * length * 1000) / median).toFixed(0)} tokens/s, ${middle(hosts).toFixed(2)} ms of the host, ` +
      `${dispatches} dispatches, workspace ${gib(workspaceBytes)} of ${gib(unsharedBytes)} GiB, live ${gib(liveBytes)} GiB, loss ${first.toFixed(4)} -> ${last.toFixed(4)}`,
  );
  const used = driverMemory();
  if (idle !== undefined && used !== undefined) {
    const { categories, pooledBytes } = memoryReport(device, { weights: model.namedParameters() });
    const parts = Object.entries(categories).map(([category, bytes]) => `${category} ${gib(bytes)}`);
    const counted = (liveBytes + pooledBytes) / GIB;
    const seen = (used - idle) / 1024;
    console.log(
      `${name}: the report adds up to ${counted.toFixed(2)} GiB (${parts.join(', ')}, pooled ${gib(pooledBytes)}), the driver shows ${seen.toFixed(2)} GiB more than idle (${idle} MiB): ${((100 * seen) / counted - 100).toFixed(1)}%`,
    );
  }
  if (lossScale) {
    const { scale, skippedSteps } = await lossScale.read();
    console.log(`${name}: loss scale ${scale}, ${skippedSteps} steps skipped`);
  }
  if (values.profile) {
    for (const { name: kernel, dispatches: count, milliseconds } of (await program.profile()).slice(0, 32))
      console.log(`  ${kernel.padEnd(34)} ${String(count).padStart(5)} ${milliseconds.toFixed(2).padStart(9)} ms`);
  }
  step.dispose();
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
if (work.includes('distil')) {
  const spec = modelSpec(config, hybridConfig(!small, undefined, preset), options);
  const weightDType = computeDType;
  using teacher = new HybridModel(device, teacherSpec, randomWeights(device, teacherSpec, { matrices: weightDType }));
  using student = new HybridModel(device, spec, randomWeights(device, spec));
  await measure('distillation step', student, () => distillation(teacher, student, ids!, values.checkpoint));
}
device.destroy();
