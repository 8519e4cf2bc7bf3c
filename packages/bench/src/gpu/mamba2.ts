/**
 * Mamba2 on a GPU: the scan, convolution, norm and whole layer in float16 held to the float32 kernels, then timed: each
 * memory-bound kernel with its share of a copy measured in the same run, the scan kernel by kernel. Exits with 1 where a
 * number is wrong.
 *
 *   node --conditions=@zebra/source --import tsx packages/bench/src/gpu/mamba2.ts [--small] [--raw] [--only NAME]
 *
 * `--small` takes tiny sizes on any adapter with emulated matrix units, to see that it runs; `--raw` opens the device
 * without robust access; `--only` times the rows whose name holds a text.
 */
import { parseArgs } from 'node:util';
import {
  causalConvolution,
  createMamba2Weights,
  gatedNorm,
  Mamba2Layer,
  type StateSpaceOperands,
  stateSpaceScan,
} from '@zebra/mamba2';
import {
  cast,
  type Device,
  defineOp,
  keep,
  openDevice,
  Random,
  randomNormal,
  type Shape,
  scope,
  shift,
  type Tensor,
  tensor,
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
const device = await openDevice({
  adapter: small ? 'auto' : 'hardware',
  robust: !values.raw,
  ...(small && { software: false, emulateMatrixUnits: true }),
});
const { description, subgroupMatrix, float16, subgroupSize, workgroupMemory } = device.info;
console.log(
  `${description}, ${values.raw ? 'not robust' : 'robust'}; matrices ${subgroupMatrix.length}, lanes ${subgroupSize}, workgroup memory ${workgroupMemory}`,
);
if (!float16) throw new Error('this adapter does not compute in float16');

const checks = new Checks();

/** A loss of one element whose gradient is a tensor at hand: forward and backward cost nothing of their own. */
const probeOp = defineOp<{ readonly g: Tensor }>({
  name: 'probe',
  shape: () => [{ shape: [1], dtype: 'float32' }],
  forward: ({ device: on, outputs: [y] }) => on.clear(y!.range()),
  backward: ({ attributes: { g } }) => [g.alias()],
  saves: { inputs: [], outputs: [] },
  reference: { forward: () => [{ shape: [1], data: Float64Array.of(0) }] },
});
const probe = (y: Tensor, g: Tensor): Tensor => probeOp.apply([y], { g })[0]!;

const half = (shape: Shape, seed: number, deviation = 1) =>
  keep(randomNormal(device, shape, { seed, deviation, dtype: 'float16' }));

// ---- Scan -----------------------------------------------------------------------------------------------------------

interface ScanSize {
  readonly batch: number;
  readonly length: number;
  readonly heads: number;
  /** Heads of x and B. */
  readonly shared: number;
  /** P and N. */
  readonly size: number;
}

/** Operands in float16 (gates' weights in float32), in the scan's order, and an upstream gradient. */
function scanInputs({ batch, length, heads, shared, size }: ScanSize): { list: Tensor[]; g: Tensor } {
  const gate = (seed: number, mean: number) =>
    keep(scope(() => shift(randomNormal(device, [heads], { seed, deviation: 0.7 }), mean)));
  return {
    list: [
      half([batch, length, shared, size], 1),
      half([batch, length, shared, size], 2),
      half([batch, length, heads, size], 3),
      half([batch, length, heads], 4),
      // Steps of 0.01 to 0.1, rates of 1 to 16.
      gate(5, -3.5),
      gate(6, 1.5),
      gate(7, 1),
    ],
    g: half([batch, length, heads, size], 8),
  };
}

function scan(list: readonly Tensor[], segments?: Tensor): Tensor {
  const [x, b, c, dt, dtBias, aLog, skip] = list as [Tensor, Tensor, Tensor, Tensor, Tensor, Tensor, Tensor];
  const operands: StateSpaceOperands = { x, b, c, dt, dtBias, aLog, skip, ...(segments && { segments }) };
  return stateSpaceScan(operands).y;
}

async function checkScan(size: ScanSize, packed = false): Promise<void> {
  const { list, g } = scanInputs(size);
  const wide = list.map((item) => (item.dtype === 'float16' ? keep(cast(item, 'float32')) : item));
  const wideG = keep(cast(g, 'float32'));
  const { batch, length } = size;
  const numbers = Int32Array.from({ length: batch * length }, (_, i) => (i % 97 === 96 ? -1 : Math.floor(i / 97)));
  const segments = packed ? keep(tensor(device, numbers, [batch, length])) : undefined;
  const label = `scan B${batch} T${length} H${size.heads}/${size.shared} ${size.size}${packed ? ' packed' : ''}`;
  const run = (inputs: readonly Tensor[], up: Tensor) =>
    valueAndGradients(() => {
      const y = scan(inputs, segments);
      return { loss: probe(y, up), y };
    }, inputs);
  const [got, want] = [run(list, g), run(wide, wideG)];
  // Operands of every product are rounded to float16 (2⁻¹¹ at most), and so are the results.
  checks.check(`${label}, y`, errorAgainst(await got.value.y.read(), await want.value.y.read()), 1e-3);
  for (const [i, name] of ['x', 'B', 'C', 'dt', 'dt_bias', 'A_log', 'D'].entries()) {
    const error = errorAgainst(await got.gradients[i]!.read(), await want.gradients[i]!.read());
    checks.check(`${label}, gradient of ${name}`, error, 3e-3);
  }
  const again = run(list, g);
  const [a, b] = [await again.gradients[5]!.read(), await got.gradients[5]!.read()];
  checks.check(`${label}, again bit for bit`, a.every((v, i) => v === b[i]) ? 0 : 1, 0);
  const made = [got, want, again].flatMap(({ value, gradients }) => [value.loss, value.y, ...gradients]);
  for (const item of [...list, ...wide, g, wideG, segments, ...made]) item?.dispose();
  device.trim();
}

// ---- Convolution, norm, layer ---------------------------------------------------------------------------------------

async function checkPart(
  name: string,
  shapes: readonly Shape[],
  halves: number,
  f: (inputs: readonly Tensor[]) => Tensor,
): Promise<void> {
  const list = shapes.map((shape, i) =>
    i < halves ? half(shape, i + 11) : keep(randomNormal(device, shape, { seed: i + 11, deviation: 0.5 })),
  );
  const wide = list.map((item) => keep(cast(item, 'float32')));
  const g = half(shapes[0]!, 31);
  const wideG = keep(cast(g, 'float32'));
  const run = (inputs: readonly Tensor[], up: Tensor) =>
    valueAndGradients(() => {
      const y = f(inputs);
      return { loss: probe(y, up), y };
    }, inputs);
  const [got, want] = [run(list, g), run(wide, wideG)];
  // The results alone are rounded.
  checks.check(`${name}, y`, errorAgainst(await got.value.y.read(), await want.value.y.read()), 5e-4);
  for (const i of shapes.keys()) {
    const error = errorAgainst(await got.gradients[i]!.read(), await want.gradients[i]!.read());
    checks.check(`${name}, gradient ${i}`, error, 5e-4);
  }
  const made = [got, want].flatMap(({ value, gradients }) => [value.loss, value.y, ...gradients]);
  for (const item of [...list, ...wide, g, wideG, ...made]) item?.dispose();
}

const LAYER = small
  ? { hiddenSize: 64, headCount: 2, keyValueHeadCount: 1, headDim: 32 }
  : { hiddenSize: 2048, headCount: 32, keyValueHeadCount: 8, headDim: 64 };

function layerOf() {
  const random = new Random(1);
  const weights = createMamba2Weights(device, LAYER, () => random.uniform());
  for (const weight of weights.values()) keep(weight);
  return { layer: new Mamba2Layer(LAYER, weights), weights };
}

async function checkLayer({ layer, weights }: ReturnType<typeof layerOf>): Promise<void> {
  const shape = small ? [1, 70, LAYER.hiddenSize] : [1, 500, LAYER.hiddenSize];
  const x = half(shape, 41);
  const wide = keep(cast(x, 'float32'));
  const g = keep(randomNormal(device, shape, { seed: 42 }));
  const run = (input: Tensor) =>
    valueAndGradients(() => {
      const y = layer.forward(input);
      return { loss: probe(y, g), y };
    }, [input, ...weights.values()]);
  const [got, want] = [run(x), run(wide)];
  checks.check('layer, y', errorAgainst(await got.value.y.read(), await want.value.y.read()), 5e-3);
  for (const [i, name] of ['x', ...weights.keys()].entries()) {
    const error = errorAgainst(await got.gradients[i]!.read(), await want.gradients[i]!.read());
    // The norm takes the scale out of y, which is hardly more than D·x at first: D's gradient is what remains of sums that
    // all but cancel.
    checks.check(`layer, gradient of ${name}`, error, name === 'D' || name === 'A_log' ? 0.1 : 1e-2);
  }
  const made = [got, want].flatMap(({ value, gradients }) => [value.loss, value.y, ...gradients]);
  for (const item of [x, wide, g, ...made]) item?.dispose();
  device.trim();
}

// ---- Timings --------------------------------------------------------------------------------------------------------

interface Work {
  readonly name: string;
  /** Bytes that must be moved at least, and operations of products. */
  readonly bytes?: number;
  readonly flops?: number;
  /** Milliseconds that the peer takes. */
  readonly peer?: number;
  /** Kernels that are let through; the others are left out of the recording. */
  readonly kernels?: RegExp;
  readonly run: () => void;
}

const rows: (Omit<Work, 'run' | 'kernels'> & { readonly milliseconds: number })[] = [];
const roundTrip = await emptyRoundTrip(device);

/** What a dispatch is turned into on its way into a recording, or left out. */
type Dispatch = Parameters<Device['dispatch']>;
let rewrite: (...call: Dispatch) => Dispatch | undefined = (...call) => call;
const dispatch = device.dispatch.bind(device);
device.dispatch = (...call: Dispatch) => {
  const changed = rewrite(...call);
  if (changed) dispatch(...changed);
};

/** Times a work and notes it: five samples of at least 10 ms. */
async function time(work: Work): Promise<number> {
  const { name, kernels, run } = work;
  if (!name.includes(values.only)) return 0;
  const before = rewrite;
  if (kernels) rewrite = (...call) => (kernels.test(call[0].name) ? before(...call) : undefined);
  const milliseconds = await timeRecorded(device, run, { roundTrip, least: 10, samples: 5, small });
  rewrite = before;
  rows.push({ ...work, milliseconds });
  return milliseconds;
}

/** Bytes and operations of the chunked scan: operands once, gradients once; the products of 64 tokens' chunks. */
function scanWork({ batch, length, heads, shared, size }: ScanSize) {
  const tokens = batch * length;
  const operands = 2 * tokens * size * (2 * shared + heads) + 2 * tokens * heads;
  const y = 2 * tokens * size * heads;
  const product = 2 * tokens * heads * 64 * size;
  return { forward: [operands + y, 4 * product], both: [3 * operands + 2 * y, 15 * product] } as const;
}

async function timeScan(size: ScanSize, details: boolean, peers?: readonly [number, number]): Promise<void> {
  const { list, g } = scanInputs(size);
  const work = scanWork(size);
  const label = `scan B${size.batch} T${size.length} H${size.heads}/${size.shared} ${size.size}`;
  const forward = () => scan(list);
  const both = () => void valueAndGradients(() => probe(forward(), g), list);
  for (const taken of details ? [64, 32] : [0]) {
    if (taken) rewrite = (...call) => takeRows(taken, ...call);
    const suffix = taken ? `, ${taken} rows` : '';
    await time({
      name: `${label} forward${suffix}`,
      ...{ bytes: work.forward[0], flops: work.forward[1] },
      ...(peers && { peer: peers[0] }),
      run: () => void forward(),
    });
    await time({
      name: `${label} forward+backward${suffix}`,
      ...{ bytes: work.both[0], flops: work.both[1] },
      ...(peers && { peer: peers[1] }),
      run: both,
    });
    if (details) await time({ name: `  of these edges${suffix}`, kernels: /^mamba2_matrix_edges$/, run: both });
    rewrite = (...call) => call;
  }
  if (details) {
    const kernels = ['gates', 'gradient', 'gate_gradient'];
    for (const name of kernels)
      await time({ name: `  of these ${name}`, kernels: new RegExp(`^mamba2_matrix_${name}$`), run: both });
    await time({ name: '  of these other kernels', kernels: /^(?!mamba2_matrix)/, run: both });
  }
  for (const item of [...list, g]) item.dispose();
  device.trim();
}

/** The walks over chunks with so many rows of a head's state a workgroup, whatever they were to take. */
function takeRows(taken: number, ...[kernel, options]: Dispatch): Dispatch {
  const { constants = {}, params = {}, groups } = options;
  if (!/matrix_(forward|edges)$/.test(kernel.name)) return [kernel, options];
  const count = (params['count']! * (constants['rows'] as number)) / taken;
  return [
    kernel,
    {
      ...options,
      constants: { ...constants, rows: taken },
      params: { ...params, count },
      groups: typeof groups === 'number' ? count : [count, 1, groups[2]],
    },
  ];
}

/** What the float32 kernels take for a scan. */
async function timeFloat32(size: ScanSize): Promise<void> {
  const { list, g } = scanInputs(size);
  const wide = [...list, g].map((item) => keep(cast(item, 'float32')));
  const inputs = wide.slice(0, -1);
  const both = () => void valueAndGradients(() => probe(scan(inputs), wide.at(-1)!), inputs);
  await time({ name: '  the same in float32', run: both });
  for (const item of [...list, g, ...wide]) item.dispose();
  device.trim();
}

async function timeParts(): Promise<void> {
  const tokens = small ? [1, 70] : [4, 2048];
  const count = tokens[0]! * tokens[1]!;
  const width = LAYER.headCount * LAYER.headDim;
  const channels = width + 2 * LAYER.keyValueHeadCount * LAYER.headDim;
  {
    const x = half([...tokens, channels], 51);
    const [weight, bias] = [
      randomNormal(device, [channels, 1, 4], { seed: 52 }),
      randomNormal(device, [channels], { seed: 53 }),
    ];
    const g = half([...tokens, channels], 54);
    const numbers = Int32Array.from({ length: count }, (_, i) => Math.floor(i / 500));
    const segments = tensor(device, numbers, tokens);
    const n = count * channels;
    const convolved = () => causalConvolution(x, weight, bias);
    await time({ name: 'convolution forward', bytes: 4 * n, run: () => void convolved() });
    await time({
      name: 'convolution forward, packed',
      bytes: 4 * n,
      run: () => void causalConvolution(x, weight, bias, { segments }),
    });
    await time({
      name: 'convolution backward',
      bytes: 6 * n,
      kernels: /^mamba2_convolution_gradient$/,
      run: () => void valueAndGradients(() => probe(convolved(), g), [x, weight, bias]),
    });
    await time({
      name: 'convolution backward, packed',
      bytes: 6 * n,
      kernels: /^mamba2_convolution_gradient$/,
      run: () =>
        void valueAndGradients(() => probe(causalConvolution(x, weight, bias, { segments }), g), [x, weight, bias]),
    });
    await time({
      name: '  sums of its shares',
      kernels: /^(?!mamba2_convolution(_gradient)?$)/,
      run: () => void valueAndGradients(() => probe(convolved(), g), [x, weight, bias]),
    });
    for (const item of [x, weight, bias, g, segments]) item.dispose();
  }
  {
    const [y, z, g] = [61, 62, 63].map((seed) => half([...tokens, width], seed)) as [Tensor, Tensor, Tensor];
    const weight = randomNormal(device, [width], { seed: 64 });
    const n = count * width;
    const normed = () => gatedNorm(y, z, weight, { groupSize: LAYER.headDim });
    await time({ name: 'gated norm forward', bytes: 6 * n, run: () => void normed() });
    await time({
      name: 'gated norm backward',
      bytes: 10 * n,
      kernels: /^mamba2_gated_norm_lanes_gradient$/,
      run: () => void valueAndGradients(() => probe(normed(), g), [y, z, weight]),
    });
    await time({
      name: '  sum of its shares',
      kernels: /^(?!mamba2_gated)/,
      run: () => void valueAndGradients(() => probe(normed(), g), [y, z, weight]),
    });
    for (const item of [y, z, g, weight]) item.dispose();
  }
  device.trim();
}

async function timeLayer({ layer, weights }: ReturnType<typeof layerOf>): Promise<void> {
  const tokens = small ? [1, 70] : [4, 2048];
  const x = half([...tokens, LAYER.hiddenSize], 71);
  const g = keep(randomNormal(device, [...tokens, LAYER.hiddenSize], { seed: 72 }));
  const { projectionSize, innerSize } = layer.config;
  const flops = 2 * tokens[0]! * tokens[1]! * LAYER.hiddenSize * (projectionSize + innerSize);
  const forward = () => layer.forward(x);
  const both = () => void valueAndGradients(() => probe(forward(), g), [x, ...weights.values()]);
  await time({ name: 'layer forward', flops, run: () => void forward() });
  await time({ name: 'layer forward+backward', flops: 3 * flops, run: both });
  await time({ name: '  of these the mixer', kernels: /^mamba2/, run: both });
  await time({ name: '  of these products', kernels: /matmul/, run: both });
  await time({ name: '  of these other kernels', kernels: /^(?!mamba2|matmul)/, run: both });
  for (const item of [x, g]) item.dispose();
}

const size = small ? 32 : 64;
if (small) {
  await checkScan({ batch: 1, length: 70, heads: 2, shared: 1, size });
} else {
  await checkScan({ batch: 2, length: 300, heads: 4, shared: 2, size });
  await checkScan({ batch: 2, length: 300, heads: 4, shared: 4, size }, true);
  await checkScan({ batch: 1, length: 2048, heads: 32, shared: 8, size });
  await checkScan({ batch: 1, length: 700, heads: 6, shared: 2, size: 128 }, true);
  await checkScan({ batch: 1, length: 2048, heads: 24, shared: 8, size: 128 });
}
const [batch, length, channels] = small ? [1, 70, 64] : [2, 300, 3072];
await checkPart('convolution', [[batch, length, channels], [channels, 1, 4], [channels]], 1, ([x, w, b]) =>
  causalConvolution(x!, w!, b!),
);
await checkPart('gated norm', [[batch, length, channels], [batch, length, channels], [channels]], 2, ([y, z, w]) =>
  gatedNorm(y!, z!, w!, { groupSize: size }),
);
const made = layerOf();
await checkLayer(made);

const bandwidth = await copyBandwidth(device, { large: !small });
if (small) {
  await timeScan({ batch: 1, length: 70, heads: 2, shared: 2, size }, false);
} else {
  await timeScan({ batch: 8, length: 2048, heads: 32, shared: 32, size }, true, [0.55, 3.8]);
  await timeScan({ batch: 4, length: 2048, heads: 32, shared: 8, size }, true);
  // The heads of Llama-3.2-3B, and of most models beyond 1B.
  const large = { batch: 4, length: 2048, heads: 24, shared: 8, size: 128 };
  await timeScan(large, true);
  await timeFloat32(large);
}
await timeParts();
await timeLayer(made);

console.log(
  `\ncopy ${(bandwidth / 1e9).toFixed(0)} GB/s\n${'work'.padEnd(48)}      ms    GB/s  of copy  TFLOP/s  of peer's speed`,
);
for (const { name, milliseconds, bytes, flops, peer } of rows) {
  const rate = bytes === undefined ? '' : (bytes / milliseconds / 1e6).toFixed(0);
  const share = bytes === undefined ? '' : `${((1e5 * bytes) / milliseconds / bandwidth).toFixed(0)}%`;
  const speed = flops === undefined ? '' : (flops / milliseconds / 1e9).toFixed(1);
  const peers = peer === undefined ? '' : `${((100 * peer) / milliseconds).toFixed(0)}%`;
  console.log(
    `${name.padEnd(48)} ${milliseconds.toFixed(4).padStart(8)} ${rate.padStart(6)} ${share.padStart(8)} ${speed.padStart(8)}  ${peers.padStart(8)}`,
  );
}
console.log(checks.failures === 0 ? 'all numbers right' : `${checks.failures} numbers WRONG`);
device.destroy();
process.exit(checks.failures === 0 ? 0 : 1);
