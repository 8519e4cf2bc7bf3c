// Products of float16 matrices on the matrix units: every plan is held to the float32 kernels, then plans are timed over
// 8192³ and the shapes of a 1B training step, and the best of each is printed beside what the fixed table chooses. Also
// the products with bias and residual, and the casts. `--small` tries it on any adapter (emulated units), `--peers FILE`
// takes the JSON of baselines/torch_baselines.py, `--plans all` sweeps all plans over the training shapes too.
import { readFile } from 'node:fs/promises';
import { parseArgs } from 'node:util';
import {
  cast,
  type Device,
  linear,
  type MatmulProduct,
  type MatrixPlan,
  matmul,
  matmulInto,
  openDevice,
  randomNormal,
  scope,
  type Tensor,
  type TunedMatmul,
  tuneMatmul,
} from '@zebra/tensor';
import { copyBandwidth } from '../runner/copy-bandwidth.js';

const { values } = parseArgs({
  options: {
    small: { type: 'boolean', default: false },
    peers: { type: 'string' },
    plans: { type: 'string', default: 'best' },
    /** Seconds after which no further plan is begun. */
    limit: { type: 'string', default: '100' },
  },
});
const { small } = values;
const begun = performance.now();
const late = () => performance.now() - begun > 1000 * Number(values.limit);

const device = await openDevice(small ? { emulateMatrixUnits: true, software: false } : { adapter: 'hardware' });
const { description, name } = { ...device.info, name: device.gpu.adapterInfo.device };
console.log(`${name} | ${description}`);
if (device.info.subgroupMatrix.length === 0) throw new Error('this adapter has no matrix units');

const BASE: MatrixPlan = {
  rows: 128,
  columns: 128,
  step: 32,
  subgroupRows: 64,
  subgroupColumns: 64,
  group: 16,
  buffers: 1,
  ahead: true,
};
const plan = (changes: Partial<MatrixPlan>): MatrixPlan => ({ ...BASE, ...changes });
const eight = { subgroupColumns: 32 } as const;

const PLANS: readonly MatrixPlan[] = small
  ? [plan({ rows: 64, columns: 64, subgroupRows: 32, subgroupColumns: 32 })]
  : [
      plan({}),
      plan({ rows: 64, columns: 64, subgroupRows: 32, subgroupColumns: 32 }),
      // Heights that divide 132 multiprocessors: the second workgroup of each then shares rows of A with the first.
      ...[8, 11, 12, 22, 33].map((group) => plan({ group })),
      plan({ buffers: 2 }),
      plan({ buffers: 2, group: 11 }),
      plan({ ahead: false }),
      plan({ ahead: false, step: 64 }),
      plan({ rows: 256, group: 8 }),
      plan({ columns: 256 }),
      plan({ rows: 256, group: 6 }),
      plan({ ...eight }),
      plan({ ...eight, buffers: 2 }),
      plan({ ...eight, ahead: false }),
      plan({ ...eight, step: 64 }),
      plan({ subgroupRows: 32 }),
      plan({ subgroupRows: 32, buffers: 2 }),
      plan({ rows: 256, columns: 64, ...eight, group: 8 }),
      plan({ rows: 128, columns: 64, ...eight }),
      plan({ rows: 128, columns: 64, ...eight, buffers: 2 }),
      plan({ rows: 64, columns: 128, subgroupRows: 32 }),
      plan({ rows: 64, columns: 64, subgroupRows: 32, subgroupColumns: 32, buffers: 2, step: 64 }),
    ];

function show({ rows, columns, step, subgroupRows, subgroupColumns, group, buffers, ahead }: MatrixPlan): string {
  const more = `${buffers === 2 ? ' 2 buffers' : ''}${ahead || buffers === 2 ? '' : ' when due'}`;
  return `${rows}×${columns}×${step} of ${subgroupRows}×${subgroupColumns} g${group}${more}`;
}

const layoutOf = ({ transposeA, transposeB }: MatmulProduct) => `${transposeA ? 'T' : 'N'}${transposeB ? 'T' : 'N'}`;
const flopsOf = ({ m, n, k }: MatmulProduct) => 2 * m * n * k;
const rateOf = (product: MatmulProduct, milliseconds: number) => flopsOf(product) / milliseconds / 1e9;

function operands({ m, n, k, transposeA, transposeB }: MatmulProduct): [Tensor, Tensor] {
  return [
    randomNormal(device, transposeA ? [k, m] : [m, k], { seed: 1, dtype: 'float16' }),
    randomNormal(device, transposeB ? [n, k] : [k, n], { seed: 2, dtype: 'float16' }),
  ];
}

/** Largest difference over the largest value. */
async function deviation(got: Tensor, wanted: Tensor): Promise<number> {
  const [one, other] = [await got.read(), await wanted.read()];
  let [difference, largest] = [0, 0];
  for (let i = 0; i < other.length; i++) {
    const here = Math.abs(one[i]! - other[i]!);
    difference = Number.isNaN(here) ? Number.POSITIVE_INFINITY : Math.max(difference, here);
    largest = Math.max(largest, Math.abs(other[i]!));
  }
  for (const each of [got, wanted]) each.dispose();
  return difference / largest;
}

let failed = 0;
function judge(what: string, error: number, bound: number): void {
  const good = error <= bound;
  if (!good) failed++;
  console.log(`${good ? 'ok  ' : 'FAIL'} ${what}: ${error.toExponential(1)} (at most ${bound})`);
}

// The matrix units' float32 sums round towards zero at every 16 products; float16 results are rounded (2⁻¹¹).
const BOUND = { float32: 2e-5, float16: 6e-4 } as const;
const [m, n, k] = small ? [72, 80, 90] : [1032, 776, 1100];
const CHECKED: readonly MatmulProduct[] = [
  { m, n, k, transposeB: true, dtype: 'float32' },
  { m: m + 1, n: n - 3, k: k - 7, dtype: 'float16' },
  { m, n: n + 4, k, transposeA: true, dtype: 'float32' },
];

for (const each of PLANS) {
  if (late()) break;
  let worst = 0;
  for (const product of CHECKED) {
    const [tuned] = await tuneMatmul(device, [product], { plans: [each], folder: false, again: true, sample: 0.001 });
    if (!tuned) {
      worst = Number.NaN;
      break;
    }
    const { transposeA = false, transposeB = false, dtype = 'float16' } = product;
    const pair = scope(() => {
      const [a, b] = operands(product);
      const transposes = { transposeA, transposeB };
      return [matmul(a, b, { ...transposes, dtype }), matmul(cast(a, 'float32'), cast(b, 'float32'), transposes)];
    });
    worst = Math.max(worst, (await deviation(pair[0]!, pair[1]!)) / BOUND[dtype]);
  }
  if (Number.isNaN(worst)) console.log(`--   ${show(each)}: does not fit this adapter`);
  else judge(`${show(each)}, error over its bound`, worst, 1);
}

{
  const pair = scope(() => {
    const x = randomNormal(device, [m, k], { seed: 3, dtype: 'float16' });
    const weight = randomNormal(device, [n, k], { seed: 4 });
    const [bias, residual] = [randomNormal(device, [n], { seed: 5 }), randomNormal(device, [m, n], { seed: 6 })];
    const rounded = cast(cast(weight, 'float16'), 'float32');
    return [linear(x, weight, bias, { residual }), linear(cast(x, 'float32'), rounded, bias, { residual })];
  });
  judge(
    'linear with bias and residual, float16 with a float32 weight',
    await deviation(pair[0]!, pair[1]!),
    BOUND.float32,
  );
}

/** Milliseconds of one `f`: the median of five samples of at least `least` ms each. */
async function time(f: () => void, least = small ? 1 : 15): Promise<number> {
  const sample = async (repeats: number, count: number): Promise<number> => {
    const program = device.capture(() => {
      for (let i = 0; i < repeats; i++) f();
    });
    const times: number[] = [];
    for (let i = 0; i < count; i++) {
      await device.synchronize();
      const start = performance.now();
      program.run();
      await device.synchronize();
      times.push(performance.now() - start);
    }
    program.dispose();
    return times.sort((one, other) => one - other)[Math.floor(count / 2)]!;
  };
  let repeats = 1;
  let total = await sample(1, 3);
  while (total < least && repeats < 2000) {
    repeats = Math.ceil(repeats * Math.min(20, (1.2 * least) / Math.max(total, 0.01)));
    total = await sample(repeats, 5);
  }
  return total / repeats;
}

/** What the library does without tuning. */
async function untuned(product: MatmulProduct): Promise<number> {
  const { transposeA = false, transposeB = false, dtype = 'float16' } = product;
  const [a, b] = operands(product);
  const out = randomNormal(device, [product.m, product.n], { dtype });
  const milliseconds = await time(() => matmulInto(out, a, b, { transposeA, transposeB }));
  for (const each of [a, b, out]) each.dispose();
  return milliseconds;
}

interface Named {
  readonly use: string;
  readonly product: MatmulProduct;
}

const side = small ? 64 : 8192;
const SQUARES: readonly Named[] = [{ transposeB: true }, {}, { transposeA: true }].map((layout) => ({
  use: `${side}³`,
  product: { m: side, n: side, k: side, ...layout },
}));
const LAYERS = small
  ? ([['tiny', 64, 72, 40]] as const)
  : ([
      ['q, o', 8192, 2048, 2048],
      ['k, v', 8192, 512, 2048],
      ['gate, up', 8192, 8192, 2048],
      ['down', 8192, 2048, 8192],
      ['head', 1024, 128_256, 2048],
    ] as const);
const TRAINING: readonly Named[] = LAYERS.flatMap(([layer, tokens, wide, deep]) => [
  { use: `${layer} forward`, product: { m: tokens, n: wide, k: deep, transposeB: true } },
  { use: `${layer} input gradient`, product: { m: tokens, n: deep, k: wide } },
  { use: `${layer} weight gradient`, product: { m: wide, n: deep, k: tokens, transposeA: true, dtype: 'float32' } },
]);

if (!small) for (let i = 0; i < 8; i++) await untuned({ m: 4096, n: 4096, k: 4096 }); // Until the clocks are up.
const table = new Map<Named, number>();
for (const named of [...SQUARES, ...TRAINING]) table.set(named, await untuned(named.product));

const sample = small ? 0.001 : 20;
const found = new Map<Named, TunedMatmul>();
const scores = new Map<MatrixPlan, number>();
for (const named of SQUARES) {
  const tried: TunedMatmul['candidates'][number][] = [];
  for (const each of PLANS) {
    if (late()) break;
    const options = { plans: [each], folder: false, again: true, sample } as const;
    const [tuned] = await tuneMatmul(device, [named.product], options);
    if (!tuned) continue;
    tried.push(...tuned.candidates);
    const best = tuned.candidates[0]!.milliseconds;
    scores.set(each, (scores.get(each) ?? 0) + rateOf(named.product, best));
    console.log(
      `${layoutOf(named.product)} ${show(each).padEnd(42)} ${rateOf(named.product, best).toFixed(1)} TFLOP/s`,
    );
  }
  const candidates = tried.sort((one, other) => one.milliseconds - other.milliseconds);
  const best = candidates[0];
  if (best) found.set(named, { product: named.product, ...best, cached: false, candidates });
}

const ranked = [...scores].sort(([, one], [, other]) => other - one).map(([each]) => each);
// For small outputs the best plans of large ones say little: the small tiles are always tried.
const little = PLANS.filter(({ rows, columns }) => rows * columns < 128 * 128);
const finalists = values.plans === 'all' ? PLANS : [...new Set([...ranked.slice(0, 6), ...little])];
for (const named of TRAINING) {
  if (late()) break;
  const plans = named.use.startsWith('k, v') || values.plans === 'all' ? finalists : ranked.slice(0, 6);
  const [tuned] = await tuneMatmul(device, [named.product], { plans, folder: false, again: true, sample });
  if (tuned) found.set(named, tuned);
}

/** Milliseconds of the peer's rows, by shape. */
async function readPeers(file: string | undefined): Promise<Map<string, number>> {
  if (!file) return new Map();
  const { rows } = JSON.parse(await readFile(file, 'utf8')) as {
    rows: { name: string; shape: string; dtype: string; milliseconds: number }[];
  };
  const products = rows.filter((row) => row.name === 'matmul' && row.dtype === 'float16');
  return new Map(products.map((row) => [row.shape, row.milliseconds]));
}
const peers = await readPeers(values.peers);

console.log(`\n${'product'.padEnd(25)} ${'M×N×K'.padEnd(24)} table  best   of peer  best plan`);
const shares: number[] = [];
for (const [named, before] of table) {
  const { use, product } = named;
  const layout = layoutOf(product);
  const best = found.get(named)?.candidates[0];
  const peer = peers.get(`${product.m}×${product.k}×${product.n} ${layout} float16`);
  const fastest = Math.min(before, best?.milliseconds ?? before);
  if (peer && TRAINING.includes(named)) shares.push(peer / fastest);
  console.log(
    `${use.padEnd(25)} ${`${product.m}×${product.n}×${product.k} ${layout}`.padEnd(24)} ` +
      `${rateOf(product, before).toFixed(0).padStart(5)} ${rateOf(product, fastest).toFixed(0).padStart(5)} ` +
      `${(peer ? `${((100 * peer) / fastest).toFixed(0)}%` : '').padStart(8)}  ` +
      `${best ? `${show(best.plan)}, ${best.pieces} pieces` : 'not reached'}`,
  );
}
if (shares.length > 0) {
  const mean = shares.reduce((sum, share) => sum + share, 0) / shares.length;
  console.log(`mean share of the peer over the training shapes: ${(100 * mean).toFixed(0)}%`);
}

await extras(device);
console.log(`${((performance.now() - begun) / 1000).toFixed(0)} s${failed > 0 ? `, ${failed} FAILED` : ', all agree'}`);
device.destroy();
process.exit(failed > 0 ? 1 : 0);

/** What an epilogue costs, and the casts' bandwidth beside that of a copy. */
async function extras(of: Device): Promise<void> {
  const [rows, wide, deep] = small ? [64, 64, 64] : [8192, 2048, 8192];
  const x = randomNormal(of, [rows, deep], { seed: 1, dtype: 'float16' });
  const weight = randomNormal(of, [wide, deep], { seed: 2 });
  const half = cast(weight, 'float16');
  const residual = randomNormal(of, [rows, wide], { seed: 3 });
  const lines: [string, () => unknown][] = [
    ['down, float16 result', () => linear(x, half)],
    ['down, float32 result', () => linear(x, half, undefined, { dtype: 'float32' })],
    ['down + residual', () => linear(x, half, undefined, { residual })],
    ['down + residual, float32 weight rounded first', () => linear(x, weight, undefined, { residual })],
  ];
  for (const [what, f] of lines) {
    console.log(`${what.padEnd(48)} ${(await time(() => scope(() => void f()))).toFixed(3)} ms`);
  }
  const count = small ? 1 << 12 : 1 << 28;
  const [wideOnes, narrow] = [randomNormal(of, [count]), randomNormal(of, [count], { dtype: 'float16' })];
  const to16 = await time(() => scope(() => void cast(wideOnes, 'float16')));
  const to32 = await time(() => scope(() => void cast(narrow, 'float32')));
  const copied = await copyBandwidth(of, { large: !small });
  const bandwidth = (bytes: number, milliseconds: number) =>
    `${((bytes * count) / milliseconds / 1e6).toFixed(0)} GB/s`;
  console.log(
    `cast float32 → float16 ${bandwidth(6, to16)}, float16 → float32 ${bandwidth(6, to32)}; copy ${(copied / 1e9).toFixed(0)} GB/s`,
  );
  for (const each of [x, weight, half, residual, wideOnes, narrow]) each.dispose();
}
