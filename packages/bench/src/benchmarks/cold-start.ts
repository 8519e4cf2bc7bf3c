import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { text } from 'node:stream/consumers';
import { generate, HybridModel } from '@zebra/runtime';
import { type AdapterChoice, type DeviceInfo, openDevice } from '@zebra/tensor';
import { randomWeights } from '../gpu/random-weights.js';
import type { Benchmark, Case, Sample, Scale } from '../runner/case.js';
import { randomIds } from './inputs.js';
import { benchModels, forwardFlops, type NamedModel, weightBytes } from './models.js';

/** Tokens of the prompt. */
const PROMPT = 16;
/** Processes that are started for a model. */
const STARTS = { large: 3, small: 1 } as const;

/** The option of the command that makes it a process to be measured: see {@link startCold}. */
export const COLD_START_OPTION = 'cold-start-process';

/** What a fresh process took. */
interface ColdStart {
  /** Opening the device and the first token; making the weights, which stand for a checkpoint, does not count. */
  readonly cold: Sample;
  /** The same call again. */
  readonly warm: Sample;
}

/** What the fresh process does: prints one line of JSON. `label` is that of the model. */
export async function startCold(
  adapter: AdapterChoice,
  scaleOf: (info: DeviceInfo) => Scale,
  label: string,
): Promise<void> {
  const cpu = () => {
    const { user, system } = process.cpuUsage();
    return (user + system) / 1e3;
  };
  const clock = () => ({ time: performance.now(), cpu: cpu() });
  const begun = clock();
  const device = await openDevice({ adapter });
  const opened = clock();
  const chosen = benchModels(scaleOf(device.info)).find((model) => model.label === label);
  if (!chosen) throw new Error(`cold start: there is no model ${label}`);
  const spec = chosen.spec(PROMPT + 1);
  const model = new HybridModel(device, spec, randomWeights(device, spec, { matrices: chosen.dtype }));
  await device.synchronize();
  device.trim();
  const prompts = [randomIds([PROMPT], model.vocabularySize)];
  const token = async () => {
    const before = clock();
    for await (const { tokens } of generate(model, prompts, { maxNewTokens: 1 })) {
      if (tokens.length !== 1) throw new Error('cold start: no token came');
    }
    const after = clock();
    const { liveBytes, pooledBytes } = device.statistics();
    return { time: after.time - before.time, cpu: after.cpu - before.cpu, memory: liveBytes + pooledBytes };
  };
  const first = await token();
  const result: ColdStart = {
    cold: {
      time: opened.time - begun.time + first.time,
      cpu: opened.cpu - begun.cpu + first.cpu,
      memory: first.memory,
    },
    warm: await token(),
  };
  process.stdout.write(`${JSON.stringify(result)}\n`);
  model.dispose();
  device.destroy();
}

/** Starts this command again with the same arguments, so that adapter and sizes are the same. */
async function startProcess(label: string): Promise<ColdStart> {
  const args = [...process.execArgv, process.argv[1]!, ...process.argv.slice(2), `--${COLD_START_OPTION}`, label];
  // Drivers keep compiled kernels on disk: a user's first start finds none.
  const env = { ...process.env, __GL_SHADER_DISK_CACHE: '0', MESA_SHADER_CACHE_DISABLE: 'true' };
  const child = spawn(process.execPath, args, { env, stdio: ['ignore', 'pipe', 'pipe'] });
  const [out, errors, [code]] = await Promise.all([text(child.stdout), text(child.stderr), once(child, 'close')]);
  if (code !== 0) throw new Error(`a fresh process ended with ${code}: ${errors.trim() || out.trim()}`);
  return JSON.parse(out.trim().split('\n').at(-1)!) as ColdStart;
}

function coldCases({ label, dtype, spec: specOf }: NamedModel, count: number): Case[] {
  const spec = specOf(PROMPT + 1);
  let starts: Promise<readonly ColdStart[]> | undefined;
  const start = async () => {
    const all: ColdStart[] = [];
    for (let i = 0; i < count; i++) all.push(await startProcess(label));
    return all;
  };
  const rows = [
    ['device and first token', 'cold'],
    ['first token again', 'warm'],
  ] as const;
  return rows.map(([what, which]) => ({
    shape: `${label} ${what}, prompt ${PROMPT} ${dtype}`,
    work: {
      flops: forwardFlops(spec, 1, PROMPT, { headTokens: 1 }),
      bytes: weightBytes(spec, dtype),
      precision: dtype,
    },
    prepare() {
      throw new Error('cold start: a process of its own is measured');
    },
    async sample() {
      // Both rows come from the same processes.
      starts ??= start();
      return (await starts).map((each) => each[which]);
    },
  }));
}

/**
 * From a process that has loaded the library to its first token: opening the device, compiling every kernel with the
 * driver's own cache off, one pass. And the same call again in that process.
 */
export const coldStartBenchmark: Benchmark = {
  name: 'cold-start',
  cases: (scale) => benchModels(scale).flatMap((model) => coldCases(model, scale.large ? STARTS.large : STARTS.small)),
};
