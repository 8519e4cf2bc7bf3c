/**
 * Tensors that are larger than one binding, on a GPU. First the kernels on a device that binds little at once, which
 * must agree to the bit with one that binds all; then what the adapter itself cannot bind at once: a training step of
 * the embedding and head of Qwen2.5-7B in float32 (2.18 GB), and decoding from a cache of over 2 GiB, each timed beside
 * the largest that fits. Exits with 1 where a number is wrong.
 *
 *   node --conditions=@zebra/source --import tsx packages/bench/src/gpu/pieces.ts [--small]
 *
 * `--small` takes tiny sizes on any adapter, whose own limit is then not reached, to see that it runs.
 */
import { parseArgs } from 'node:util';
import { stateSpaceScan } from '@zebra/mamba2';
import {
  AdamW,
  attention,
  cast,
  crossEntropy,
  type Device,
  type DeviceOptions,
  embedding,
  keep,
  linear,
  matmul,
  multiply,
  openDevice,
  project,
  randomNormal,
  rmsNorm,
  type Shape,
  scope,
  slice,
  softmax,
  square,
  squareRoot,
  sum,
  swiglu,
  type Tensor,
  tensor,
  valueAndGradients,
} from '@zebra/tensor';
import { Checks, errorAgainst } from './checks.js';
import { emptyRoundTrip, timeRecorded } from './timing.js';

const { small } = parseArgs({ options: { small: { type: 'boolean', default: false } } }).values;

function open(options: DeviceOptions = {}): Promise<Device> {
  const emulated = small && { software: false, emulateMatrixUnits: true };
  return openDevice({ adapter: small ? 'auto' : 'hardware', ...emulated, ...options });
}

const device = await open();
const { description, float16, subgroupMatrix } = device.info;
const { maxStorageBufferBindingSize, maxBufferSize, maxStorageBuffersPerShaderStage } = device.limits;
console.log(
  `${description}, matrix units: ${subgroupMatrix.length > 0}; ${maxStorageBufferBindingSize} bytes a binding, ${maxBufferSize} a buffer, ${maxStorageBuffersPerShaderStage} bindings`,
);
if (!float16) throw new Error('this adapter does not compute in float16');
const checks = new Checks();

// ---- Kernel by kernel -----------------------------------------------------------------------------------------------

type Run = (inputs: readonly Tensor[]) => readonly (Tensor | undefined)[];

/** Operands, each of 2 MiB or less (with `--small` of 16 KiB), and what is done with them. */
interface Case {
  readonly shapes: readonly Shape[];
  readonly dtype: 'float16' | 'float32';
  readonly run: Run;
}

const side = small ? 88 : 1000;
const tokens = small ? 64 : 1000;
const heads = small ? 4 : 16;
const sequence: Shape = [1, tokens, heads, 64];
const withGradients =
  (f: (inputs: readonly Tensor[]) => Tensor): Run =>
  (inputs) => {
    const { value, gradients } = valueAndGradients(() => sum(cast(multiply(f(inputs), f(inputs)), 'float32')), inputs);
    return [value, ...gradients];
  };

const CASES: Readonly<Record<string, Case>> = {
  'products of the matrix units, and their gradients': {
    shapes: [
      [side, side],
      [side, side],
    ],
    dtype: 'float16',
    run: withGradients(([a, b]) => matmul(a!, b!)),
  },
  'products in float32': {
    shapes: [
      [side, side / 2],
      [side / 2, side],
    ],
    dtype: 'float32',
    run: withGradients(([a, b]) => matmul(a!, b!)),
  },
  'products of few rows': {
    shapes: [
      [40, side],
      [side, side],
      [4, side],
      [1, side],
    ],
    dtype: 'float16',
    run: ([rows, weight, few, row]) => [
      linear(rows!, weight!),
      linear(few!, weight!),
      linear(row!, weight!),
      project(row!, [weight!]),
    ],
  },
  'attention and its gradients': {
    shapes: [sequence, sequence, sequence],
    dtype: 'float16',
    run: withGradients(([q, k, v]) => attention(q!, k!, v!)),
  },
  'attention of one token': {
    shapes: [sequence, sequence, sequence],
    dtype: 'float16',
    run: ([q, k, v]) => [attention(slice(q!, 1, 0, 1), k!, v!)],
  },
  'norms, softmax, swiglu': {
    shapes: [[side, side], [side], [side, side]],
    dtype: 'float16',
    run: withGradients(([x, weight, gate]) => softmax(swiglu(rmsNorm(x!, weight!), gate!))),
  },
  'the state-space scan and its gradients': {
    // Half the heads: the gradient binds more tensors than could all be cut.
    shapes: [
      [1, tokens, 2, 64],
      [1, tokens, 2, 64],
      [1, tokens, heads / 2, 64],
      [1, tokens, heads / 2],
      [heads / 2],
      [heads / 2],
      [heads / 2],
    ],
    dtype: 'float16',
    run: withGradients(([x, b, c, dt, dtBias, aLog, skip]) => {
      const [bias, rate, direct] = [dtBias!, aLog!, skip!].map((one) => cast(one, 'float32')) as [
        Tensor,
        Tensor,
        Tensor,
      ];
      return stateSpaceScan({ x: x!, b: b!, c: c!, dt: dt!, dtBias: bias, aLog: rate, skip: direct }).y;
    }),
  },
};

/** Everything that a case gives, from the same numbers on every device. */
async function valuesOf(on: Device, { shapes, dtype, run }: Case): Promise<ArrayLike<number>[]> {
  const inputs = shapes.map((shape, seed) => keep(randomNormal(on, shape, { seed, deviation: 0.3, dtype })));
  const outputs = scope(() => [...run(inputs)]);
  const values: ArrayLike<number>[] = [];
  for (const output of outputs) if (output) values.push(await output.read());
  for (const one of [...inputs, ...outputs]) one?.dispose();
  return values;
}

async function checkKernels(): Promise<void> {
  const cut = await open({ bindingLimit: small ? 2 ** 13 : 2 ** 20 });
  for (const [name, one] of Object.entries(CASES)) {
    const [whole, pieces] = [await valuesOf(device, one), await valuesOf(cut, one)];
    const odd = whole.flatMap((values, k) => Array.from(values, (v, i) => (Object.is(v, pieces[k]![i]) ? 0 : 1)));
    const some = whole.every((values) => Array.prototype.some.call(values, (v) => v !== 0 && Number.isFinite(v)));
    checks.check(
      `${name}: share of values that differ`,
      some ? odd.reduce<number>((a, b) => a + b, 0) / odd.length : 1,
      0,
    );
  }
  cut.destroy();
}

// ---- Past the adapter's own limit -----------------------------------------------------------------------------------

interface Row {
  readonly name: string;
  readonly bytes: number;
  readonly milliseconds: number;
}
const rows: Row[] = [];
const roundTrip = await emptyRoundTrip(device);

async function time(name: string, bytes: number, run: () => void): Promise<void> {
  rows.push({
    name,
    bytes,
    milliseconds: await timeRecorded(device, run, { roundTrip, least: 15, samples: 7, small }),
  });
}

/** A part of a tensor as it lies in memory, read without a kernel. */
async function rowsOf(table: Tensor, row: number, count: number): Promise<Float32Array> {
  const bytes = 4 * table.shape[1]!;
  const range = { storage: table.storage, offset: table.offset + row * bytes, size: count * bytes };
  return new Float32Array(await device.read(range));
}

/** A model's embedding, which is its head too, of so many words: forward, backward, update. */
async function checkHead(words: number): Promise<void> {
  const [width, count] = small ? [64, 96] : [3584, 2048];
  const table = keep(randomNormal(device, [words, width], { seed: 1, deviation: 0.02 }));
  // Words from both ends, so that every piece is read and written.
  const ids = Int32Array.from({ length: count }, (_, i) => (i % 2 === 0 ? i : words - 1 - i));
  const inputs = tensor(device, ids, [count]);
  const targets = tensor(
    device,
    ids.map((id) => (id + 7) % words),
    [count],
  );
  const hidden = scope(() => cast(embedding(table, inputs), 'float16'));
  const last = await readOnce(() => cast(slice(hidden, 0, 1, 1), 'float32'));
  checks.check(`${words} words: the last one`, errorAgainst(last, await rowsOf(table, words - 2, 1)), 5e-4);

  // A float32 head is rounded to float16 for the products; the rounded one fits a binding.
  const rounded = scope(() => cast(table, 'float16'));
  const wide = valueAndGradients(() => crossEntropy({ hidden, head: table, targets }), [hidden, table]);
  const narrow = valueAndGradients(() => crossEntropy({ hidden, head: rounded, targets }), [hidden]);
  const losses = [await wide.value.item(), await narrow.value.item()] as const;
  console.log(`${words} words: loss ${losses[0]}`);
  checks.check(`${words} words: loss against that of a float16 head`, Math.abs(losses[0] / losses[1] - 1), 1e-6);
  const [got, want] = await Promise.all(
    [wide, narrow].map(({ gradients }) => readOnce(() => cast(gradients[0]!, 'float32'))),
  );
  checks.check(`${words} words: gradient of hidden states, likewise`, errorAgainst(got!, want!), 1e-6);

  // The head's gradient is (softmax − one-hot)ᵀ · hidden / N: over all words it adds up to zero.
  const gradient = wide.gradients[1]!;
  const [total] = (await readOnce(() => sum(gradient))) as [number];
  const [size] = (await readOnce(() => squareRoot(sum(square(gradient))))) as [number];
  checks.check(`${words} words: sum of the head's gradient against its norm`, Math.abs(total) / size, 1e-2);

  const optimizer = new AdamW(new Map([['table', table]]), { maxGradientNorm: 1 });
  const random = keep(randomNormal(device, [words, width], { seed: 2 }));
  const start = [await rowsOf(table, 0, 2), await rowsOf(table, words - 2, 2)];
  optimizer.step(new Map([['table', random]]), 1e-3);
  for (const [k, row] of [0, words - 2].entries()) {
    const [now, g] = [await rowsOf(table, row, 2), await rowsOf(random, row, 2)];
    const moved = now.map((value, i) => value - start[k]![i]!);
    // The first step is −rate · g / (|g| + ε), of gradients of norm 1.
    const clipped = g.map((value) => value / Math.sqrt(words * width));
    const expected = clipped.map((value) => (-1e-3 * value) / (Math.abs(value) + 1e-8));
    checks.check(`${words} words: AdamW's first step in row ${row}`, errorAgainst(moved, expected), 1e-3);
  }

  const bytes = words * width * 4;
  await time(`embedding, ${words} words`, 8 * count * width, () => void embedding(table, inputs));
  await time(`cast to float16, ${words} words`, 1.5 * bytes, () => void cast(table, 'float16'));
  await time(`loss and gradients, ${words} words`, bytes, () => {
    valueAndGradients(() => crossEntropy({ hidden, head: table, targets }), [hidden, table]);
  });
  await time(`AdamW with its norm, ${words} words`, 8 * bytes, () => optimizer.apply(new Map([['table', random]])));
  const made = [wide.value, ...wide.gradients, narrow.value, ...narrow.gradients];
  for (const one of [table, inputs, targets, hidden, rounded, random, optimizer, ...made]) one?.dispose();
  device.trim();
}

/** What `f` makes, read and freed. */
async function readOnce(f: () => Tensor): Promise<ArrayLike<number> & Iterable<number>> {
  using made = scope(f);
  return await made.read();
}

async function checkCache(): Promise<void> {
  const [batch, width] = small ? [2, 16] : [64, 64];
  for (const length of small ? [256, 320] : [32_256, 33_792]) {
    const q = keep(randomNormal(device, [batch, 1, 32, width], { seed: 1, dtype: 'float16' }));
    const [k, v] = [2, 3].map((seed) =>
      keep(randomNormal(device, [batch, length, 8, width], { seed, dtype: 'float16' })),
    ) as [Tensor, Tensor];
    const y = attention(q, k, v);
    // A row by itself: nothing is bound in pieces.
    for (const row of [0, batch - 1]) {
      const alone = await readOnce(() => {
        const [q1, k1, v1] = [q, k, v].map((one) => slice(one, 0, row, 1)) as [Tensor, Tensor, Tensor];
        return cast(attention(q1, k1, v1), 'float32');
      });
      const among = await readOnce(() => cast(slice(y, 0, row, 1), 'float32'));
      checks.check(`cache of ${length}, row ${row} against itself alone`, errorAgainst(among, alone), 1e-3);
    }
    await time(`decode, cache of ${batch} × ${length}`, 2 * 2 * k.size, () => void attention(q, k, v));
    for (const one of [q, k, v, y]) one.dispose();
    device.trim();
  }
}

const before = device.statistics().liveBuffers;
await checkKernels();
for (const words of small ? [1000, 1100] : [149_504, 152_064]) await checkHead(words);
await checkCache();
const leaked = device.statistics().liveBuffers - before;
if (leaked !== 0) checks.fail(`${leaked} buffers leaked`);
console.log('\nwork                                              GB       ms     GB/s');
for (const { name, bytes, milliseconds } of rows) {
  const [size, rate] = [bytes / 1e9, bytes / milliseconds / 1e6];
  console.log(
    `${name.padEnd(44)} ${size.toFixed(3).padStart(7)} ${milliseconds.toFixed(3).padStart(8)} ${rate.toFixed(0).padStart(8)}`,
  );
}
device.destroy();
process.exit(checks.failures > 0 ? 1 : 0);
