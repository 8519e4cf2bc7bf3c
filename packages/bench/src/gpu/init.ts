/**
 * Conversion at full size on a GPU: correctness of the leading subspaces against float64 and against matrices whose
 * singular values are known, then the time of all layers of the 1B and 8B shapes.
 *
 *   node --conditions=@zebra/source --import tsx packages/bench/src/gpu/init.ts [--small] [--lapack]
 *
 * `--lapack` checks random matrices up to 4096×4096 against numpy's float64 singular values (`python3` with numpy), and
 * nothing else.
 */
import { execFileSync } from 'node:child_process';
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import {
  attentionSingularValues,
  deviceSingularValues,
  initialiseMamba2,
  initialiseMla,
  leadingSubspace,
  singularValues,
} from '@zebra/init';
import {
  type Device,
  defineKernel,
  empty,
  linearMain,
  matmul,
  openDevice,
  Random,
  scope,
  square,
  subtract,
  sum,
  type Tensor,
  tensor,
} from '@zebra/tensor';
import { plainFrequencies } from '@zebra/tensor/nn';

const small = process.argv.includes('--small');
const device = await openDevice({ adapter: small ? 'auto' : 'hardware' });
const print = (line: string) => process.stdout.write(`${line}\n`);
const seconds = (since: number) => (performance.now() - since) / 1000;
const failures: string[] = [];

/** Sums of four uniform numbers, of variance deviation²; columns may fall off as 1/(1 + j/decay), which makes a decaying spectrum. */
const randomKernel = defineKernel({
  name: 'bench-random',
  bindings: { x: 'write' },
  params: { count: 'u32', columns: 'u32', seed: 'u32', deviation: 'f32', decay: 'f32' },
  source: () => /* wgsl */ `
fn hash(v: u32) -> u32 {
  let s = v * 747796405u + 2891336453u;
  let word = ((s >> ((s >> 28u) + 4u)) ^ s) * 277803737u;
  return (word >> 22u) ^ word;
}
${linearMain(
  'p.count',
  `  var total = 0.0;
  for (var t = 0u; t < 4u; t++) { total += f32(hash((4u * i + t) ^ hash(p.seed)) >> 8u) / 16777216.0 - 0.5; }
  let falling = select(1.0, 1.0 / (1.0 + f32(i % p.columns) / p.decay), p.decay > 0.0);
  x[i] = total * sqrt(3.0) * p.deviation * falling;`,
)}`,
});

function randomMatrix(rows: number, columns: number, seed: number, deviation = 1, decay = 0): Tensor {
  const x = empty(device, [rows, columns]);
  device.dispatch(randomKernel, {
    bindings: { x: x.range() },
    params: { count: x.size, columns, seed, deviation, decay },
    groups: Math.ceil(x.size / device.workgroupOf(randomKernel)),
  });
  return x;
}

/** U·diag(values)·Vᵀ, U and V products of a few Householder reflections. */
function withSpectrum(rows: number, columns: number, values: Float64Array): Tensor {
  const random = new Random(rows + columns);
  const data = new Float32Array(rows * columns);
  values.forEach((value, i) => {
    data[i * columns + i] = value;
  });
  let w = tensor(device, data, [rows, columns]);
  const reflection = (size: number) => {
    const v = Float64Array.from({ length: size }, () => random.normal());
    const norm = Math.sqrt(v.reduce((total, x) => total + x * x, 0) / 2);
    return Float32Array.from(v, (x) => x / norm);
  };
  for (let i = 0; i < 6; i++) {
    const next = scope(() => {
      const u = tensor(device, reflection(rows), [rows, 1]);
      const left = subtract(w, matmul(u, matmul(u, w, { transposeA: true })));
      const v = tensor(device, reflection(columns), [columns, 1]);
      return subtract(left, matmul(matmul(left, v), v, { transposeB: true }));
    });
    w.dispose();
    w = next;
  }
  return w;
}

async function norm(x: Tensor): Promise<number> {
  const total = scope(() => sum(square(x)));
  const squares = await total.item();
  total.dispose();
  return Math.sqrt(squares);
}

/** ‖QᵀQ − I‖_F/√r. */
async function departure(q: Tensor): Promise<number> {
  const rank = q.shape[1] as number;
  const identity = new Float32Array(rank * rank);
  for (let i = 0; i < rank; i++) identity[i * (rank + 1)] = 1;
  const difference = scope(() => subtract(matmul(q, q, { transposeA: true }), tensor(device, identity, [rank, rank])));
  const result = (await norm(difference)) / Math.sqrt(rank);
  difference.dispose();
  return result;
}

/** Compares the error reached, measured anew, with the best, from exact singular values. */
async function check(label: string, w: Tensor, rank: number, exact: Float64Array): Promise<void> {
  const start = performance.now();
  const found = await leadingSubspace(w, rank);
  const time = seconds(start);
  const q = found.basis;
  const residual = scope(() => subtract(w, matmul(q, matmul(q, w, { transposeA: true }))));
  const reached = await norm(residual);
  const best = Math.sqrt(exact.subarray(rank).reduce((total, value) => total + value * value, 0));
  const whole = Math.sqrt(exact.reduce((total, value) => total + value * value, 0));
  const off = await departure(q);
  const largest = exact[0] as number;
  const worst =
    found.singularValues.reduce((most, v, i) => Math.max(most, Math.abs(v - (exact[i] as number))), 0) / largest;
  // 0.1% of the best error, and float32 rounding of W where almost all of it is kept.
  const ok = reached <= 1.001 * best + 2e-6 * whole && off < 1e-5 && worst < 1e-5;
  if (!ok) failures.push(label);
  print(
    `${ok ? 'ok  ' : 'FAIL'} ${label}: rank ${rank}, error/best − 1 = ${(reached / best - 1).toExponential(1)}, best/‖W‖ = ${(best / whole).toExponential(1)}, QᵀQ − I ${off.toExponential(1)}, values ${worst.toExponential(1)}, ${time.toFixed(2)} s`,
  );
  for (const t of [w, q, residual]) t.dispose();
}

/** numpy's `svd` in float64, of LAPACK. */
async function lapackSingularValues(w: Tensor): Promise<Float64Array> {
  const folder = mkdtempSync(join(tmpdir(), 'zebra-lapack-'));
  try {
    writeFileSync(join(folder, 'w'), (await w.read()) as Float32Array);
    const script =
      'import sys, numpy as n; f, r = sys.argv[1], int(sys.argv[2]); n.linalg.svd(n.fromfile(f + "/w", n.float32).astype(n.float64).reshape(r, -1), compute_uv=False).tofile(f + "/values")';
    execFileSync('python3', ['-c', script, folder, String(w.shape[0])]);
    return new Float64Array(new Uint8Array(readFileSync(join(folder, 'values'))).buffer);
  } finally {
    rmSync(folder, { recursive: true });
  }
}

/** Random matrices by name: flat and decaying spectra, square and wide. */
function randomMatrices(size: number): Record<string, Tensor> {
  return {
    'random, flat': randomMatrix(size, size, 1),
    'random, decaying': randomMatrix(size, size, 2, 1, size / 50),
    'random wide': randomMatrix(size / 2, size, 3),
  };
}

async function againstLapack(): Promise<void> {
  for (const size of small ? [130] : [2048, 4096]) {
    for (const [name, w] of Object.entries(randomMatrices(size))) {
      const exact = await lapackSingularValues(w);
      await check(`${w.shape.join('×')} ${name} (LAPACK, float64)`, w, Math.floor((w.shape[0] as number) / 2), exact);
    }
  }
}

const SPECTRA: Record<string, (i: number, n: number) => number> = {
  'flat (1 to 0.1, linear)': (i, n) => 1 - (0.9 * i) / n,
  'decaying as 1/i': (i) => 1 / (i + 1),
  'decaying over 5 decades': (i, n) => 10 ** ((-5 * i) / n),
  'low rank and noise': (i, n) => (i < n / 8 ? 1 : 1e-3),
};

async function correctness(): Promise<void> {
  for (const size of small ? [96, 130] : [512, 1024]) {
    for (const [name, w] of Object.entries(randomMatrices(size))) {
      const exact = singularValues({ shape: w.shape, data: (await w.read()) as Float32Array });
      await check(`${w.shape.join('×')} ${name} (host SVD, float64)`, w, Math.floor((w.shape[0] as number) / 2), exact);
    }
  }
  for (const size of small ? [128] : [2048, 4096]) {
    for (const [name, value] of Object.entries(SPECTRA)) {
      const values = Float64Array.from({ length: size }, (_, i) => value(i, size));
      await check(`${size}×${size} ${name}`, withSpectrum(size, size, values), size / 2, values);
    }
    const values = Float64Array.from({ length: size / 2 }, (_, i) => value2(i, size / 2));
    await check(`${size / 2}×${size} flat, few`, withSpectrum(size / 2, size, values), Math.ceil(size / 26), values);
  }
}

const value2 = SPECTRA['flat (1 to 0.1, linear)'] as (i: number, n: number) => number;

interface ModelShape {
  readonly name: string;
  readonly hiddenSize: number;
  readonly headCount: number;
  readonly keyValueHeadCount: number;
  readonly headDim: number;
  readonly qLoraRank: number;
  readonly kvLoraRank: number;
  readonly layers: number;
  /** Layers that are timed. */
  readonly timed: number;
}

const SHAPES: readonly ModelShape[] = small
  ? [
      {
        name: 'small',
        hiddenSize: 320,
        headCount: 8,
        keyValueHeadCount: 4,
        headDim: 40,
        qLoraRank: 200,
        kvLoraRank: 32,
        layers: 16,
        timed: 2,
      },
    ]
  : [
      {
        name: '1B',
        hiddenSize: 2048,
        headCount: 32,
        keyValueHeadCount: 8,
        headDim: 64,
        qLoraRank: 1344,
        kvLoraRank: 128,
        layers: 16,
        timed: 16,
      },
      {
        name: '8B',
        hiddenSize: 4096,
        headCount: 32,
        keyValueHeadCount: 8,
        headDim: 128,
        qLoraRank: 2048,
        kvLoraRank: 160,
        layers: 32,
        timed: 2,
      },
    ];

/** Random attention weights, flat or decaying. */
function attentionOf(shape: ModelShape, layer: number): Map<string, Tensor> {
  const inner = shape.headCount * shape.headDim;
  const keyValue = shape.keyValueHeadCount * shape.headDim;
  const d = shape.hiddenSize;
  // Every other layer has a decaying spectrum (s₁/s_r of some 50, as trained weights have), which takes two groups.
  const decay = layer % 2 ? d / 40 : 0;
  const weight = (rows: number, columns: number, i: number) =>
    randomMatrix(rows, columns, 4 * layer + i, d ** -0.5, decay);
  return new Map([
    ['q_proj.weight', weight(inner, d, 0)],
    ['k_proj.weight', weight(keyValue, d, 1)],
    ['v_proj.weight', weight(keyValue, d, 2)],
    ['o_proj.weight', weight(d, inner, 3)],
  ]);
}

function dispose(...maps: ReadonlyMap<string, Tensor>[]): void {
  for (const map of maps) for (const weight of map.values()) weight.dispose();
}

async function timed<T>(work: () => Promise<T>): Promise<[T, number]> {
  await device.synchronize();
  const start = performance.now();
  const result = await work();
  await device.synchronize();
  return [result, seconds(start)];
}

async function layers(shape: ModelShape, on: Device): Promise<string> {
  const { hiddenSize, headCount, keyValueHeadCount, headDim, qLoraRank, kvLoraRank } = shape;
  const mla = {
    hiddenSize,
    headCount,
    keyValueHeadCount,
    qLoraRank,
    kvLoraRank,
    qkNopeHeadDim: headDim / 2,
    qkRopeHeadDim: headDim / 2,
    vHeadDim: headDim,
    useLoraLayerNorm: false,
    useFullKvHead: false,
    rope: { theta: 500000, scaling: null },
  };
  const options = {
    teacherFrequencies: plainFrequencies(500000, headDim),
    sharedRopeKey: 'aligned',
    where: 'device',
  } as const;
  let [mlaTime, mambaTime, excess] = [0, 0, 0];
  const generator = new Random(1);
  for (let layer = 0; layer < shape.timed; layer++) {
    const attention = attentionOf(shape, layer);
    const [made, time] = await timed(() => initialiseMla(attention, mla, options));
    const [other, otherTime] = await timed(() =>
      initialiseMamba2(
        attention,
        { hiddenSize, headCount, keyValueHeadCount, headDim },
        { random: () => generator.uniform() },
      ),
    );
    mlaTime += time;
    mambaTime += otherTime;
    for (const errors of [made.details.errors.query, made.details.errors.keyValue])
      if (errors) excess = Math.max(excess, errors.reached / errors.smallest - 1);
    print(`     ${shape.name} layer ${layer}: MLA ${time.toFixed(2)} s, Mamba2 ${otherTime.toFixed(2)} s`);
    dispose(attention, made.weights, other.weights);
  }
  const attention = attentionOf(shape, 1);
  const query = attention.get('q_proj.weight') as Tensor;
  const [, valuesTime] = await timed(() => deviceSingularValues(query));
  const [, spectraTime] = await timed(() => attentionSingularValues(attention, shape, { where: 'device' }));
  dispose(attention);
  if (!(excess < 1e-3)) failures.push(`${shape.name}: error ${excess} above the best`);
  const factor = shape.layers / shape.timed;
  const { peakBytes, liveBytes, pooledBytes } = on.statistics();
  return `${shape.name}: all ${shape.layers} layers MLA ${(mlaTime * factor).toFixed(1)} s, Mamba2 ${(mambaTime * factor).toFixed(1)} s${factor > 1 ? ` (from ${shape.timed} layers)` : ''}; singular values of W_Q ${valuesTime.toFixed(2)} s, of both matrices ${spectraTime.toFixed(2)} s; worst error/best − 1 ${excess.toExponential(1)}; peak ${(peakBytes / 2 ** 20).toFixed(0)} MiB live so far, ${((liveBytes + pooledBytes) / 2 ** 20).toFixed(0)} MiB with the pool`;
}

print(`device: ${device.info.description}`);
const table: string[] = [];
if (process.argv.includes('--lapack')) await againstLapack();
else {
  await correctness();
  device.trim();
  for (const shape of SHAPES) table.push(await layers(shape, device));
}
print('');
for (const line of table) print(line);
print(failures.length === 0 ? 'all ok' : `FAILED: ${failures.join('; ')}`);
process.exit(failures.length === 0 ? 0 : 1);
