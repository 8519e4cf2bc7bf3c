/**
 * Vocabulary losses, AdamW and the memory-bound operations on a GPU: first held to the float32 kernels, then timed, each
 * with its share of a copy measured in the same run. Exits with 1 where a number is wrong.
 *
 *   node --conditions=@zebra/source --import tsx packages/bench/src/gpu/losses.ts [--small] [--raw] [--only NAME]
 *
 * `--small` takes tiny sizes on any adapter, to see that it runs; `--raw` opens the device without robust access;
 * `--only` times the rows whose name holds a text.
 */
import { parseArgs } from 'node:util';
import {
  AdamW,
  add,
  cast,
  crossEntropy,
  type Device,
  defineOp,
  embedding,
  fill,
  klDivergence,
  LossScale,
  openDevice,
  rmsNorm,
  rope,
  type Shape,
  scope,
  swiglu,
  type Tensor,
  tensor,
  tokenLogProbabilities,
  valueAndGradients,
} from '@zebra/tensor';
import { copyBandwidth } from '../runner/copy-bandwidth.js';
import { Checks, errorAgainst } from './checks.js';
import { emptyRoundTrip, timeRecorded } from './timing.js';

const { values } = parseArgs({
  options: {
    small: { type: 'boolean', default: false },
    raw: { type: 'boolean', default: false },
    only: { type: 'string', default: '' },
  },
});
const small = values.small;
const device = await openDevice({ adapter: small ? 'auto' : 'hardware', robust: !values.raw });
const { description, subgroupMatrix, float16 } = device.info;
console.log(`${description}, ${values.raw ? 'not robust' : 'robust'}, matrix units: ${subgroupMatrix.length > 0}`);
if (!float16) throw new Error('this adapter does not compute in float16');

const checks = new Checks();

/** Numbers in [−1, 1) by position, times a factor. */
function numbers(count: number, seed: number, factor = 1): Float32Array {
  const out = new Float32Array(count);
  let state = seed >>> 0 || 1;
  for (let i = 0; i < count; i++) {
    state ^= state << 13;
    state ^= state >>> 17;
    state ^= state << 5;
    out[i] = factor * ((state >>> 0) / 2147483648 - 1);
  }
  return out;
}

function random(on: Device, shape: Shape, seed: number, factor = 1): Tensor {
  return tensor(
    on,
    numbers(
      shape.reduce((a, b) => a * b, 1),
      seed,
      factor,
    ),
    shape,
  );
}

// ---- Correctness ----------------------------------------------------------------------------------------------------

/** Losses and gradients in float16 against those in float32, from the same (float16) numbers. */
async function checkLosses(): Promise<void> {
  const [rows, width, columns] = small ? [70, 40, 264] : [700, 256, 20_008];
  const hidden16 = [1, 2].map((seed) => scope(() => cast(random(device, [rows, width], seed), 'float16')));
  const head16 = [3, 4].map((seed) => scope(() => cast(random(device, [columns, width], seed, 0.3), 'float16')));
  const wide = (list: Tensor[]) => list.map((item) => cast(item, 'float32'));
  const [hidden32, head32] = [wide(hidden16), wide(head16)];
  const ids = Array.from({ length: rows }, (_, i) => (i % 9 === 4 ? -100 : (i * 7919) % columns));
  const targets = tensor(device, ids, [rows], { dtype: 'int32' });
  const seed = tensor(device, [4096]);
  const losses = {
    'cross-entropy': (h: Tensor[], w: Tensor[]) => crossEntropy({ hidden: h[0]!, head: w[0]!, targets }),
    'cross-entropy, short chunks': (h: Tensor[], w: Tensor[]) =>
      crossEntropy({ hidden: h[0]!, head: w[0]!, targets }, { chunkRows: 192 }),
    'KL divergence': (h: Tensor[], w: Tensor[]) =>
      klDivergence({
        student: { hidden: h[0]!, head: w[0]! },
        teacher: { hidden: h[1]!, head: w[1]! },
        targets,
      }),
    'log-probabilities': (h: Tensor[], w: Tensor[]) =>
      probeSum(tokenLogProbabilities({ hidden: h[0]!, head: w[0]!, targets })),
  };
  for (const [name, loss] of Object.entries(losses)) {
    const full = valueAndGradients(() => loss(hidden32, head32), [hidden32[0]!, head32[0]!], { seed });
    // The head stays a float32 master: it is rounded inside.
    const half = valueAndGradients(() => loss(hidden16, head32), [hidden16[0]!, head32[0]!], { seed });
    checks.check(`${name}, loss`, Math.abs((await half.value.item()) / (await full.value.item()) - 1), 1e-5);
    for (const [index, what] of ['hidden states', 'head'].entries()) {
      const [got, want] = [await half.gradients[index]!.read(), await full.gradients[index]!.read()];
      // Every gradient of a logit is rounded to float16 (2⁻¹¹), that of the hidden states once more.
      checks.check(`${name}, gradient of ${what}`, errorAgainst(got, want), 1e-3);
    }
    const again = valueAndGradients(() => loss(hidden16, head32), [head32[0]!], { seed });
    const [a, b] = [await again.gradients[0]!.read(), await half.gradients[1]!.read()];
    checks.check(`${name}, again bit for bit`, a.every((v, i) => v === b[i]) ? 0 : 1, 0);
    for (const made of [full, half, again]) for (const item of [made.value, ...made.gradients]) item?.dispose();
  }
  for (const item of [...hidden16, ...head16, ...hidden32, ...head32, targets, seed]) item.dispose();
}

/** Σ x as one element, whose gradient is the seed everywhere. */
function probeSum(x: Tensor): Tensor {
  return scope(() => {
    const ones = fill(device, [x.size, 1], 1);
    return probeDot.apply([x, ones], {})[0]!;
  });
}

const probeDot = defineOp<Record<string, never>>({
  name: 'probeDot',
  shape: () => [{ shape: [1], dtype: 'float32' }],
  // The loss's value is not looked at where this is used but to be the same for both dtypes.
  forward: ({ device: on, outputs: [y] }) => {
    using one = fill(on, [1], 1);
    on.copy({ ...one.range(), size: 4 }, { ...y!.range(), size: 4 });
  },
  backward: ({ inputs: [x], gradients: [g] }) => [scope(() => add(g!, fill(device, x!.shape, 0)))],
  reference: { forward: () => [{ shape: [1], data: Float64Array.of(1) }] },
});

async function checkOptimizer(): Promise<void> {
  const sizes = [1, 63, small ? 5000 : 3_000_000];
  const start = sizes.map((size, i) => numbers(size, i + 1));
  const gradients = sizes.map((size, i) => numbers(size, i + 11));
  const parameters = new Map(start.map((data, i) => [`p${i}`, tensor(device, data)]));
  const scaleOf = 1024;
  const given = new Map(
    gradients.map((data, i) => [
      `p${i}`,
      tensor(
        device,
        data.map((v) => v * scaleOf),
      ),
    ]),
  );
  const lossScale = LossScale.fixed(device, scaleOf);
  const optimizer = new AdamW(parameters, { weightDecay: 0.1, maxGradientNorm: 1, lossScale });
  optimizer.step(given, 0.01);
  let squares = 0;
  for (const list of gradients) for (const v of list) squares += v * v;
  const norm = Math.sqrt(squares);
  checks.check('gradient norm', Math.abs((await optimizer.gradientNorm.read())[0]! / norm - 1), 1e-5);
  const factor = Math.min(1, 1 / (norm + 1e-6));
  for (const [i, list] of start.entries()) {
    const want = list.map((w, k) => {
      const g = gradients[i]![k]! * factor;
      return w - 0.01 * (0.1 * w + g / (Math.abs(g) + 1e-8));
    });
    checks.check(`AdamW, ${sizes[i]} weights`, errorAgainst(await parameters.get(`p${i}`)!.read(), want), 1e-5);
  }
  for (const item of [...parameters.values(), ...given.values(), optimizer, lossScale]) item.dispose();
}

/** The memory-bound operations in float16 against themselves in float32. */
async function checkMemoryBound(): Promise<void> {
  const rows = small ? 37 : 1500;
  const x = random(device, [rows, 2048], 21);
  const weight = random(device, [2048], 22);
  const upstream = random(device, [rows, 2048], 23);
  const up16 = cast(upstream, 'float16');
  const normed = (g: Tensor, half: boolean) =>
    valueAndGradients(() => probe(rmsNorm(x, weight, half ? { dtype: 'float16' } : {}), g), [x, weight]);
  const [full, half] = [normed(upstream, false), normed(up16, true)];
  for (const [i, name] of ['x', 'weight'].entries()) {
    // The upstream gradients are rounded to float16.
    checks.check(
      `rmsNorm, gradient of ${name}`,
      errorAgainst(await half.gradients[i]!.read(), await full.gradients[i]!.read()),
      1e-3,
    );
  }
  const y = scope(() => cast(rmsNorm(x, weight, { dtype: 'float16' }), 'float32'));
  const host = await x.read();
  const w = await weight.read();
  const want = new Float32Array(host.length);
  for (let r = 0; r < rows; r++) {
    let squares = 0;
    for (let c = 0; c < 2048; c++) squares += host[r * 2048 + c]! ** 2;
    const scale = 1 / Math.sqrt(squares / 2048 + 1e-6);
    for (let c = 0; c < 2048; c++) want[r * 2048 + c] = host[r * 2048 + c]! * scale * w[c]!;
  }
  checks.check('rmsNorm to float16', errorAgainst(await y.read(), want), 5e-4);
  const x16 = cast(x, 'float16');
  const back = cast(x16, 'float32');
  checks.check('cast to float16 and back', errorAgainst(await back.read(), host), 5e-4);
  const both16 = valueAndGradients(() => probe(swiglu(x16, up16), up16), [x16, up16]);
  const wideUp = cast(up16, 'float32');
  const both32 = valueAndGradients(() => probe(swiglu(back, wideUp), wideUp), [back, wideUp]);
  for (const [i, name] of ['gate', 'up'].entries()) {
    const error = errorAgainst(await both16.gradients[i]!.read(), await both32.gradients[i]!.read());
    checks.check(`swiglu, gradient of ${name}`, error, 5e-4);
  }
  const made = [full, half, both16, both32].flatMap(({ value, gradients }) => [value, ...gradients]);
  for (const item of [x, weight, upstream, up16, y, x16, back, wideUp, ...made]) item?.dispose();
}

async function checkEmbedding(): Promise<void> {
  const [vocabulary, tokens, width] = small ? [50, 90, 8] : [5000, 8192, 64];
  const table = random(device, [vocabulary, width], 31);
  const list = Array.from({ length: tokens }, (_, i) => Math.floor(vocabulary * ((i * 0.618) % 1) ** 3));
  const ids = tensor(device, list, [tokens], { dtype: 'int32' });
  const g = random(device, [tokens, width], 32);
  const { value, gradients } = valueAndGradients(() => probe(embedding(table, ids), g), [table]);
  const upstream = await g.read();
  const want = new Float64Array(vocabulary * width);
  list.forEach((id, i) => {
    for (let c = 0; c < width; c++) want[id * width + c]! += upstream[i * width + c]!;
  });
  // Sums of at most some hundred float32 values.
  checks.check('embedding gradient', errorAgainst(await gradients[0]!.read(), want), 1e-6);
  for (const item of [table, ids, g, value, ...gradients]) item?.dispose();
}

/** A loss of one element whose gradient is a tensor at hand: forward and backward cost nothing of their own. */
function probe(y: Tensor, g: Tensor): Tensor {
  return probeOp.apply([y], { g })[0]!;
}

const probeOp = defineOp<{ readonly g: Tensor }>({
  name: 'probe',
  shape: () => [{ shape: [1], dtype: 'float32' }],
  forward: ({ device: on, outputs: [y] }) => on.clear(y!.range()),
  backward: ({ attributes: { g } }) => [g.alias()],
  saves: { inputs: [], outputs: [] },
  reference: { forward: () => [{ shape: [1], data: Float64Array.of(0) }] },
});

// ---- Timings --------------------------------------------------------------------------------------------------------

interface Work {
  readonly name: string;
  /** Bytes that must be moved at least, and operations of products. */
  readonly bytes?: number;
  readonly flops?: number;
  readonly run: () => void;
}

interface Row {
  readonly name: string;
  readonly milliseconds: number;
  readonly bytes?: number | undefined;
  readonly flops?: number | undefined;
}

const rows: Row[] = [];
const roundTrip = await emptyRoundTrip(device);

/** Times a work and notes it: seven samples of at least 15 ms. */
async function time({ name, bytes, flops, run }: Work): Promise<number> {
  if (!name.includes(values.only)) return 0;
  const milliseconds = await timeRecorded(device, run, { roundTrip, least: 15, samples: 7, small });
  rows.push({ name, milliseconds, bytes, flops });
  return milliseconds;
}

/** A forward and its backward by themselves; the second as the difference of both and the first. */
async function timeBoth(
  name: string,
  inputs: readonly Tensor[],
  g: Tensor,
  bytes: readonly [number, number],
  forward: () => Tensor,
): Promise<void> {
  await time({ name: `${name} forward`, bytes: bytes[0], run: () => void forward() });
  await time({
    name: `${name} forward+backward`,
    bytes: bytes[0] + bytes[1],
    run: () => void valueAndGradients(() => probe(forward(), g), inputs),
  });
}

async function timeMemoryBound(): Promise<void> {
  const [tokens, width, inner] = small ? [64, 128, 256] : [8192, 2048, 8192];
  const n = tokens * width;
  {
    const x = random(device, [tokens, width], 1);
    const weight = random(device, [width], 2);
    const g = cast(x, 'float16');
    await timeBoth('rmsNorm f32→f16', [x, weight], g, [6 * n, 10 * n], () => rmsNorm(x, weight, { dtype: 'float16' }));
    await time({ name: 'add f32', bytes: 12 * n, run: () => void add(x, x.view(x)) });
    await time({ name: 'cast f32→f16', bytes: 6 * n, run: () => void cast(x, 'float16') });
    await time({ name: 'cast f16→f32', bytes: 6 * n, run: () => void cast(g, 'float32') });
    const half = 32;
    const heads = width / (2 * half);
    const tables = { cos: random(device, [tokens, half], 3), sin: random(device, [tokens, half], 4) };
    const q = g.view({ shape: [1, tokens, heads, 2 * half], dtype: 'float16' });
    await time({ name: 'rope f16', bytes: 4 * n, run: () => void rope(q, tables) });
    for (const item of [x, weight, g, q, tables.cos, tables.sin]) item.dispose();
  }
  {
    const m = tokens * inner;
    const gate = fill(device, [tokens, inner], 0.5, { dtype: 'float16' });
    const up = fill(device, [tokens, inner], 0.25, { dtype: 'float16' });
    await timeBoth('swiglu f16', [gate, up], up, [6 * m, 10 * m], () => swiglu(gate, up));
    for (const item of [gate, up]) item.dispose();
  }
  {
    const vocabulary = small ? 500 : 128_256;
    const table = fill(device, [vocabulary, width], 0.1);
    const list = Array.from({ length: tokens }, (_, i) => Math.floor(vocabulary * ((i * 0.618) % 1) ** 3));
    const ids = tensor(device, list, [tokens], { dtype: 'int32' });
    const g = fill(device, [tokens, width], 1);
    // The gradient of the whole table is cleared; rows with tokens are written again.
    const bytes = 4 * vocabulary * width + 8 * n;
    await timeBoth('embedding', [table], g, [8 * n, bytes], () => embedding(table, ids));
    for (const item of [table, ids, g]) item.dispose();
  }
  device.trim();
}

async function timeLosses(): Promise<void> {
  const [tokens, width, vocabulary] = small ? [96, 64, 1000] : [8192, 2048, 128_256];
  const product = 2 * tokens * width * vocabulary;
  const states = () => scope(() => cast(random(device, [tokens, width], 1), 'float16'));
  const list = Array.from({ length: tokens }, (_, i) => (i * 7919) % vocabulary);
  const targets = tensor(device, list, [tokens], { dtype: 'int32' });
  const hidden = states();
  const head = fill(device, [vocabulary, width], 0.01);
  const seed = tensor(device, [65536]);
  const entropy = () => crossEntropy({ hidden, head, targets });
  await time({ name: 'cross-entropy forward', flops: product, run: () => void entropy() });
  await time({
    name: 'cross-entropy forward+backward',
    flops: 3 * product,
    run: () => void valueAndGradients(entropy, [hidden, head], { seed }),
  });
  await time({
    name: 'log-probabilities forward+backward',
    flops: 4 * product,
    run: () => void valueAndGradients(() => probeSum(tokenLogProbabilities({ hidden, head, targets })), [hidden, head]),
  });
  const teacher = { hidden: states(), head: fill(device, [vocabulary, width], 0.02, { dtype: 'float16' }) };
  await time({
    name: 'KL divergence forward+backward',
    flops: 4 * product,
    run: () =>
      void valueAndGradients(() => klDivergence({ student: { hidden, head }, teacher }), [hidden, head], { seed }),
  });
  for (const item of [targets, hidden, head, seed, teacher.hidden, teacher.head]) item.dispose();
  device.trim();
}

/** The tensors of a Llama of 1B parameters, or of a small one. */
function llamaShapes(): Shape[] {
  const [vocabulary, width, inner, keys, layers] = small ? [500, 64, 128, 16, 2] : [128_256, 2048, 8192, 512, 16];
  const layer: Shape[] = [
    [width, width],
    [keys, width],
    [keys, width],
    [width, width],
    [inner, width],
    [inner, width],
    [width, inner],
    [width],
    [width],
  ];
  return [[vocabulary, width], ...Array.from({ length: layers }, () => layer).flat(), [width]];
}

async function timeOptimizer(): Promise<void> {
  const parameters = new Map(llamaShapes().map((shape, i) => [`p${i}`, fill(device, shape, 0.02)]));
  const gradients = new Map([...parameters].map(([name, { shape }]) => [name, fill(device, shape, 0.001)]));
  const count = [...parameters.values()].reduce((sum, { size }) => sum + size, 0);
  const optimizer = new AdamW(parameters, { maxGradientNorm: 1 });
  optimizer.prepare(1e-6);
  const run = () => optimizer.apply(gradients);
  const label = `${(count / 1e9).toFixed(2)}e9 weights in ${parameters.size} tensors`;
  await time({ name: `AdamW with its norm, ${label}`, bytes: 32 * count, run });
  // A gradient that is not finite: the norm is computed, the update returns at once.
  [...gradients.values()].at(-1)!.write(new Float32Array([...gradients.values()].at(-1)!.size).fill(Number.NaN));
  await time({ name: 'gradient norm (and an update that is skipped)', bytes: 4 * count, run });
  for (const item of [...parameters.values(), ...gradients.values(), optimizer]) item.dispose();
  device.trim();
}

function report(): void {
  const widest = Math.max(...rows.map(({ name }) => name.length));
  console.log(
    `\n${'work'.padEnd(widest)}        ms     GB/s  of copy  TFLOP/s   (copy ${(bandwidth / 1e9).toFixed(0)} GB/s, empty round trip ${roundTrip.toFixed(2)} ms)`,
  );
  for (const { name, milliseconds, bytes, flops } of rows) {
    const cells = [
      milliseconds.toFixed(3).padStart(10),
      (bytes ? (bytes / milliseconds / 1e6).toFixed(0) : '').padStart(8),
      (bytes ? `${((1e5 * bytes) / milliseconds / bandwidth).toFixed(0)}%` : '').padStart(8),
      (flops ? (flops / milliseconds / 1e9).toFixed(1) : '').padStart(8),
    ];
    console.log(`${name.padEnd(widest)}${cells.join(' ')}`);
  }
  const { peakBytes } = device.statistics();
  console.log(`peak of live memory ${(peakBytes / 1e9).toFixed(2)} GB`);
}

const before = device.statistics().liveBuffers;
await checkLosses();
await checkOptimizer();
await checkMemoryBound();
await checkEmbedding();
const bandwidth = await copyBandwidth(device, { large: !small });
await timeMemoryBound();
await timeLosses();
await timeOptimizer();
report();
const leaked = device.statistics().liveBuffers - before;
if (leaked !== 0) console.log(`FAIL ${leaked} buffers leaked`);
device.destroy();
process.exit(checks.failures > 0 || leaked !== 0 ? 1 : 0);
