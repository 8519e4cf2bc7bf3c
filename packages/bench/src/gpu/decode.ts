// Decoding on a GPU with float16 weights of true shapes: few-row products against the copy bandwidth, the short way
// through layers against whole passes, tokens a second and dispatches of a published hybrid's shape and its Llama's
// (`--preset`, default 1B), cache bytes. `--small` runs small shapes on any adapter, `--profile` prints the kernels,
// `--work` chooses parts.
import { parseArgs } from 'node:util';
import { generate, type HybridConfig, HybridModel, modelSpec } from '@zebra/runtime';
import {
  advanceAll,
  argmax,
  matmul,
  openDevice,
  type Program,
  randomNormal,
  reshape,
  scope,
  slice,
  type Tensor,
  tensor,
} from '@zebra/tensor';
import { moveLength } from '../benchmarks/decode.js';
import { randomIds } from '../benchmarks/inputs.js';
import { hybridConfig, llamaConfig, presetNamed } from '../benchmarks/models.js';
import { copyBandwidth } from '../runner/copy-bandwidth.js';
import { Checks, errorAgainst } from './checks.js';
import { randomWeights } from './random-weights.js';

const { values } = parseArgs({
  options: {
    small: { type: 'boolean', default: false },
    profile: { type: 'boolean', default: false },
    work: { type: 'string', default: 'products,check,decode,generate' },
    /** batch x context, comma-separated. */
    decode: { type: 'string', default: '' },
    models: { type: 'string', default: 'llama,hybrid' },
    robust: { type: 'boolean', default: false },
    preset: { type: 'string', default: 'Zebra-Llama-1B-4MLA-12Mamba' },
  },
});
const { small } = values;
const work = values.work.split(',');
const device = await openDevice(
  small ? { software: false, robust: values.robust } : { adapter: 'hardware', robust: values.robust },
);
const dtype = device.info.float16 ? 'float16' : 'float32';
console.log(`${device.info.description}, ${dtype}, ${values.robust ? 'robust' : 'not robust'}`);

const preset = presetNamed(values.preset);
const config = llamaConfig(!small, preset);
const hybridOf = (layers?: HybridConfig['layers']) => hybridConfig(!small, layers, preset);

/** Milliseconds of a way there and back with nothing to do. */
async function emptyTrip(): Promise<number> {
  const x = tensor(device, Int32Array.of(0));
  const times: number[] = [];
  for (let i = 0; i < 7; i++) {
    const start = performance.now();
    advanceAll(x);
    await device.synchronize();
    times.push(performance.now() - start);
  }
  x.dispose();
  return times.sort((a, b) => a - b)[3]!;
}

/** Median milliseconds of one run, out of `samples` samples of `runs` runs. */
async function time(program: Program<unknown>, runs: number, samples = 5): Promise<number> {
  const trip = await emptyTrip();
  // A GPU that waited for a compiler runs at a fraction of its clock for a while.
  const warm = performance.now() + (small ? 0 : 200);
  do {
    program.run();
    await device.synchronize();
  } while (performance.now() < warm);
  const times: number[] = [];
  for (let sample = 0; sample < samples; sample++) {
    const start = performance.now();
    for (let i = 0; i < runs; i++) program.run();
    await device.synchronize();
    times.push(Math.max(performance.now() - start - trip, 1e-6) / runs);
  }
  return times.sort((a, b) => a - b)[Math.floor(samples / 2)]!;
}

const rows: string[] = [];
const say = (line: string) => {
  rows.push(line);
  console.log(line);
};
const checks = new Checks();
const SHAPES: readonly (readonly [n: number, k: number])[] = small
  ? [
      [64, 64],
      [512, 64],
    ]
  : [
      [2048, 2048],
      [512, 2048],
      [3072, 2048],
      [8192, 2048],
      [2048, 8192],
      [128256, 2048],
    ];
const ROWS = small ? [1, 8, 16] : [1, 8, 16, 64];

/** The product of a few of the rows of a weight, on the host. */
async function checkProduct(x: Tensor, w: Tensor, y: Tensor, name: string): Promise<void> {
  const [n, k] = w.shape as [number, number];
  const m = x.shape[0]!;
  const some = Math.min(8, n);
  for (const first of [0, n - some]) {
    const [part, slab] = scope(() => [slice(y, 1, first, some), slice(w, 0, first, some)]);
    const [got, weight, input] = [await part!.read(), await slab!.read(), await x.read()];
    const wanted = Array.from({ length: m * some }, (_, i) => {
      let sum = 0;
      for (let c = 0; c < k; c++) sum += input[Math.floor(i / some) * k + c]! * weight[(i % some) * k + c]!;
      return sum;
    });
    checks.check(`${name}, columns from ${first}`, errorAgainst(got, wanted), 1e-3);
    part!.dispose();
    slab!.dispose();
  }
}

async function products(bandwidth: number): Promise<void> {
  say(`few-row products, float16 weights, ${bandwidth.toFixed(0)} GB/s copied`);
  for (const [n, k] of SHAPES) {
    const line: string[] = [];
    for (const m of ROWS) {
      // More copies than the second-level cache holds.
      const copies = small ? 2 : Math.max(1, Math.ceil(3e8 / (2 * n * k)));
      const x = randomNormal(device, [m, k], { seed: 1, dtype });
      const weights = Array.from({ length: copies }, (_, seed) =>
        randomNormal(device, [n, k], { seed: seed + 2, dtype, deviation: k ** -0.5 }),
      );
      const y = scope(() => matmul(x, weights[0]!, { transposeB: true, dtype }));
      await checkProduct(x, weights[0]!, y, `${m}x${n}x${k}`);
      const program = device.capture(() =>
        scope(() => {
          for (const weight of weights) matmul(x, weight, { transposeB: true, dtype });
        }),
      );
      const milliseconds = (await time(program, small ? 2 : Math.ceil(4e9 / (2 * n * k * copies)))) / copies;
      const rate = (2 * (n * k + m * (n + k))) / milliseconds / 1e6;
      line.push(
        `M=${m} ${(milliseconds * 1e3).toFixed(1)} us ${rate.toFixed(0)} GB/s ${((100 * rate) / bandwidth).toFixed(0)}%`,
      );
      program.dispose();
      for (const item of [x, y, ...weights]) item.dispose();
    }
    say(`  ${`${n}x${k}`.padEnd(12)} ${line.join(' | ')}`);
    device.trim();
  }
}

/** Logits of tokens one by one with a cache, against one pass over all of them. */
async function checkModel(name: string, layers: HybridConfig['layers'] | undefined): Promise<void> {
  const count = layers?.length ?? 2;
  const shape = { ...config, layerCount: count };
  const spec = modelSpec(shape, layers && hybridOf(layers), { maxPositions: 64, computeDType: dtype });
  const model = new HybridModel(device, spec, randomWeights(device, spec, { matrices: dtype }));
  for (const batch of [1, 3, 16, 64]) {
    const tokens = 20;
    const ids = randomIds([batch, tokens], shape.vocabularySize, 3);
    const whole = scope(() => model.forward(tensor(device, ids, [batch, tokens])));
    const all = await whole.read();
    whole.dispose();
    const cache = model.newCache(batch, tokens);
    let worst = 0;
    for (let start = 0; start < tokens; ) {
      const size = start === 0 ? 15 : 1;
      const part = scope(() => {
        const cut = (values: (row: number, t: number) => number) =>
          tensor(
            device,
            Int32Array.from({ length: batch * size }, (_, i) => values(Math.floor(i / size), start + (i % size))),
            [batch, size],
          );
        return model.forward(
          cut((row, t) => ids[row * tokens + t]!),
          { positions: cut((_, t) => t), cache },
        );
      });
      const got = await part.read();
      part.dispose();
      const width = model.hiddenSize;
      const wanted = Array.from({ length: batch }, (_, row) => [
        ...all.slice((row * tokens + start) * width, (row * tokens + start + size) * width),
      ]).flat();
      worst = Math.max(worst, errorAgainst(got, wanted));
      start += size;
    }
    checks.check(`${name}, ${batch} rows, step by step`, worst, dtype === 'float16' ? 1e-2 : 1e-4);
    cache.dispose();
  }
  model.dispose();
  device.trim();
}

interface Measured {
  readonly rate: number;
  readonly cacheBytes: number;
}

async function decode(name: string, model: HybridModel, batch: number, context: number): Promise<Measured> {
  const steps = small ? 2 : Math.max(4, Math.ceil(64 / batch));
  const before = device.statistics().liveBytes;
  const cache = model.newCache(batch, context + steps * 7 + 8);
  const cacheBytes = device.statistics().liveBytes - before;
  moveLength(cache, context);
  const column = (value: number) => tensor(device, new Int32Array(batch).fill(value), [batch, 1]);
  const [ids, positions] = [column(5), column(context)];
  const program = device.capture(() =>
    scope(() => {
      const hidden = model.forward(ids, { positions, cache });
      const logits = matmul(hidden, model.headWeight, { transposeB: true, dtype: 'float32' });
      advanceAll(positions);
      return argmax(reshape(logits, [batch, -1]), { finite: true });
    }),
  );
  const milliseconds = await time(program, steps);
  const [first] = await program.result.read();
  if (first === -1) {
    checks.fail(`${name}: logits are not finite`);
  }
  const { dispatches, workspaceBytes } = program.statistics;
  const rate = (batch * 1000) / milliseconds;
  say(
    `  ${name.padEnd(7)} batch ${String(batch).padStart(2)} context ${String(context).padStart(5)}: ${milliseconds.toFixed(3)} ms a step, ${rate.toFixed(0)} tokens/s, ` +
      `${dispatches} dispatches, cache ${(cache.bytesPerToken / 1024).toFixed(2)} KiB a token + ${(cache.constantBytes / 1024).toFixed(0)} KiB a row, ` +
      `${(cacheBytes / 1e6).toFixed(1)} MB on the device, workspace ${(workspaceBytes / 1e6).toFixed(1)} MB`,
  );
  if (values.profile) {
    for (const { name: kernel, dispatches: count, milliseconds: taken } of (await program.profile()).slice(0, 16))
      console.log(`      ${kernel.padEnd(34)} ${String(count).padStart(5)} ${(taken * 1e3).toFixed(0).padStart(8)} us`);
  }
  program.result.dispose();
  program.dispose();
  const { bytesPerToken } = cache;
  for (const item of [cache, ids, positions]) item.dispose();
  device.trim();
  await device.synchronize();
  return { rate, cacheBytes: bytesPerToken };
}

/** The library's own loop, host and reading back included. */
async function generated(name: string, model: HybridModel): Promise<void> {
  const [prompt, count] = small ? [8, 12] : [1024, 200];
  const ids = randomIds([1, prompt], model.vocabularySize, 4);
  for (const run of [0, 1]) {
    let [first, last] = [0, 0];
    const start = performance.now();
    for await (const { step } of generate(model, [ids], { maxNewTokens: count })) {
      last = performance.now();
      if (step === 0) first = last;
    }
    if (run === 1) {
      say(
        `  ${name.padEnd(7)} generate: first token after ${(first - start).toFixed(1)} ms (${prompt} in the prompt), then ${((1000 * (count - 1)) / (last - first)).toFixed(0)} tokens/s`,
      );
    }
  }
}

const bandwidth = (await copyBandwidth(device, { large: !small })) / 1e9;
if (work.includes('products')) await products(bandwidth);
if (work.includes('check')) {
  await checkModel('llama', undefined);
  await checkModel('mla', ['mla', 'mla']);
  await checkModel('mamba2', ['mamba2', 'mamba2']);
}
if (work.includes('decode') || work.includes('generate')) {
  const pairs = values.decode
    ? values.decode.split(',').map((pair) => pair.split('x').map(Number) as [number, number])
    : small
      ? ([
          [1, 16],
          [3, 16],
        ] as const)
      : ([
          [1, 1024],
          [8, 1024],
          [64, 8192],
        ] as const);
  const rates = new Map<string, Measured>();
  say(`decoding, float16 weights and caches`);
  for (const name of values.models.split(',')) {
    const options = { maxPositions: small ? 64 : 9216, computeDType: dtype } as const;
    const spec = modelSpec(config, name === 'llama' ? undefined : hybridOf(), options);
    const model = new HybridModel(device, spec, randomWeights(device, spec, { matrices: dtype }));
    if (work.includes('decode'))
      for (const [batch, context] of pairs)
        rates.set(`${name} ${batch}x${context}`, await decode(name, model, batch, context));
    if (work.includes('generate')) await generated(name, model);
    model.dispose();
    device.trim();
  }
  for (const [batch, context] of pairs) {
    const [llama, hybrid] = ['llama', 'hybrid'].map((name) => rates.get(`${name} ${batch}x${context}`));
    if (llama && hybrid)
      say(
        `  hybrid / llama, batch ${batch} context ${context}: ${(hybrid.rate / llama.rate).toFixed(2)}x the tokens, ${((100 * hybrid.cacheBytes) / llama.cacheBytes).toFixed(2)}% of the cache a token`,
      );
  }
}
console.log(`\n${rows.join('\n')}\n${checks.failures} failed`);
device.destroy();
process.exit(checks.failures > 0 ? 1 : 0);
