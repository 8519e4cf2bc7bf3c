/**
 * Products of float16 matrices on a GPU's matrix units, which no software adapter has: first held to the float32
 * kernels over shapes that fit no tile, then timed. Exits with 1 where a product is wrong.
 *
 *   node --conditions=@zebra/source --import tsx packages/bench/src/matrix-units.bench.ts [--raw]
 *
 * `--raw` opens the device without robust access.
 */
import { parseArgs } from 'node:util';
import {
  cast,
  type Device,
  type DType,
  elementCount,
  empty,
  fill,
  matmulInto,
  openDevice,
  type Shape,
  scope,
  type Tensor,
  tensor,
} from '@zebra/tensor';
import { randomTensor } from './benchmarks/inputs.js';
import { summarise } from './runner/statistics.js';

const { values } = parseArgs({ options: { raw: { type: 'boolean', default: false } } });
const device = await openDevice({ robust: !values.raw });
const { description, subgroupMatrix } = device.info;
const sizes = subgroupMatrix.map(({ m, n, k }) => `${m}×${n}×${k}`).join(' ') || 'none';
console.log(`${description}, ${values.raw ? 'not robust' : 'robust'}; matrices ${sizes}`);

type Layout = 'NN' | 'NT' | 'TN' | 'TT';
const LAYOUTS: readonly Layout[] = ['NN', 'NT', 'TN', 'TT'];

interface Product {
  readonly sizes: readonly [m: number, n: number, k: number];
  readonly batch?: readonly [a: number, b: number, out: number];
  readonly alpha?: number;
  readonly accumulate?: boolean;
  readonly output?: DType;
}

function shapesOf(
  { sizes: [m, n, k], batch: [a, b, out] = [1, 1, 1] }: Product,
  layout: Layout,
): [Shape, Shape, Shape] {
  const lead = (count: number): Shape => (count === 1 ? [] : [count]);
  return [
    [...lead(a), ...(layout[0] === 'T' ? [k, m] : [m, k])],
    [...lead(b), ...(layout[1] === 'T' ? [n, k] : [k, n])],
    [...lead(out), m, n],
  ];
}

const transposes = (layout: Layout) => ({ transposeA: layout[0] === 'T', transposeB: layout[1] === 'T' });

const PRODUCTS: readonly Product[] = [
  { sizes: [128, 128, 64] },
  { sizes: [128, 128, 128], output: 'float32' },
  { sizes: [130, 141, 99] },
  { sizes: [1025, 1031, 77], output: 'float32' },
  { sizes: [1032, 1160, 328] },
  { sizes: [1000, 1004, 4100], output: 'float32' },
  { sizes: [33, 4100, 3000] },
  { sizes: [520, 136, 8200], alpha: 0.5, accumulate: true },
  { sizes: [1030, 1033, 200], alpha: 0.5, accumulate: true },
  { sizes: [1032, 1032, 200], alpha: 2, accumulate: true, output: 'float32' },
  { sizes: [136, 152, 168], batch: [5, 5, 5] },
  { sizes: [136, 152, 168], batch: [40, 1, 40] },
  { sizes: [40, 50, 60], batch: [1, 70, 70], output: 'float32' },
  { sizes: [264, 520, 96], batch: [3, 3, 1], alpha: 0.5, accumulate: true, output: 'float32' },
  { sizes: [264, 520, 96], batch: [3, 3, 1] },
];

/** Puts ones on the diagonal: what is multiplied with it is copied. */
function identity(size: number): Tensor {
  const ones = new Float32Array(size * size);
  for (let i = 0; i < size; i++) ones[i * (size + 1)] = 1;
  return tensor(device, ones, [size, size]);
}

/** Largest difference from the float32 kernels' product, over the largest value. */
async function deviation(product: Product, layout: Layout): Promise<number> {
  const { alpha = 1, accumulate = false, output = 'float16' } = product;
  const [shapeA, shapeB, shapeC] = shapesOf(product, layout);
  const options = { ...transposes(layout), alpha, accumulate };
  const made = scope(() => {
    const [a, b, before] = [shapeA, shapeB, shapeC].map((shape, seed) =>
      randomTensor(device, shape, { dtype: 'float16', seed }),
    ) as [Tensor, Tensor, Tensor];
    const whole = fill(device, [elementCount(shapeC) + 512], 7, { dtype: output });
    // Not at the start of its memory, with neighbours that must stay as they are.
    const c = whole.view({ shape: shapeC, dtype: output }, 256);
    const expected = cast(before, 'float32');
    return { a, b, c, whole, expected, before };
  });
  const { a, b, c, whole, expected, before } = made;
  scope(() => {
    if (accumulate) matmulInto(c, before, identity(shapeC.at(-1)!));
    matmulInto(c, a, b, options);
    matmulInto(expected, cast(a, 'float32'), cast(b, 'float32'), options);
  });
  const [got, around, wanted] = [await c.read(), await whole.read(), await expected.read()];
  const first = 256 / (output === 'float16' ? 2 : 4);
  const untouched = [...around.subarray(0, first), ...around.subarray(first + got.length)].every(
    (value) => value === 7,
  );
  let [difference, largest] = [0, 0];
  for (let i = 0; i < got.length; i++) {
    const here = Math.abs(got[i]! - wanted[i]!);
    difference = Number.isNaN(here) ? Number.POSITIVE_INFINITY : Math.max(difference, here);
    largest = Math.max(largest, Math.abs(wanted[i]!));
  }
  for (const each of Object.values(made)) each.dispose();
  return untouched ? difference / largest : Number.POSITIVE_INFINITY;
}

// float16 outputs are rounded (2⁻¹¹), sums that reach them through float32 as well; the matrix units' float32 sums
// round towards zero at every 16 products.
const BOUND = { float16: 6e-4, float32: 2e-5 };
let failed = 0;
const worst = { float16: 0, float32: 0 };
const begun = performance.now();
for (const product of PRODUCTS) {
  for (const layout of LAYOUTS) {
    const output = (product.output ?? 'float16') as 'float16' | 'float32';
    const error = await deviation(product, layout);
    worst[output] = Math.max(worst[output], error);
    if (error <= BOUND[output]) continue;
    failed++;
    console.log(
      `WRONG ${product.sizes.join('×')} ${layout} ${output} batch ${product.batch ?? 1}: ${error.toExponential(1)}`,
    );
  }
}
const seconds = ((performance.now() - begun) / 1000).toFixed(1);
console.log(
  `${PRODUCTS.length * LAYOUTS.length - failed} of ${PRODUCTS.length * LAYOUTS.length} products agree; largest deviation ` +
    `float16 ${worst.float16.toExponential(1)}, float32 ${worst.float32.toExponential(1)} (${seconds} s)`,
);

/** A tensor of normal numbers, made on the device: a product of thin random matrices. */
function random(device: Device, [rows, columns]: readonly [number, number]): Tensor {
  const out = empty(device, [rows, columns], { dtype: 'float16' });
  scope(() => {
    const [left, right] = [
      [rows, 64],
      [64, columns],
    ].map((shape, seed) => randomTensor(device, shape, { dtype: 'float16', seed, deviation: 64 ** -0.25 }));
    matmulInto(out, left!, right!);
  });
  return out;
}

async function milliseconds(product: Product, layout: Layout, repeats: number): Promise<number> {
  const [a, b, c] = shapesOf(product, layout).map((shape) => shape as [number, number]);
  const [left, right] = [random(device, a!), random(device, b!)];
  const out = empty(device, c!, { dtype: product.output ?? 'float16' });
  const program = device.capture(() => {
    for (let i = 0; i < repeats; i++) matmulInto(out, left, right, transposes(layout));
  });
  const samples: number[] = [];
  for (let i = 0; i < 6; i++) {
    await device.synchronize();
    const start = performance.now();
    program.run();
    await device.synchronize();
    if (i > 0) samples.push((performance.now() - start) / repeats);
  }
  program.dispose();
  for (const each of [left, right, out]) each.dispose();
  return summarise(samples).median;
}

const TIMED: [string, Product, Layout][] = [4096, 8192].flatMap((n) =>
  LAYOUTS.map((layout): [string, Product, Layout] => [`${n}³`, { sizes: [n, n, n] }, layout]),
);
for (const [name, tokens, wide, deep] of [
  ['q, o', 8192, 2048, 2048],
  ['k, v', 8192, 512, 2048],
  ['gate, up', 8192, 8192, 2048],
  ['down', 8192, 2048, 8192],
  ['head', 1024, 128_256, 2048],
] as const) {
  TIMED.push([`${name} forward`, { sizes: [tokens, wide, deep] }, 'NT']);
  TIMED.push([`${name} input gradient`, { sizes: [tokens, deep, wide] }, 'NN']);
  TIMED.push([`${name} weight gradient`, { sizes: [wide, deep, tokens], output: 'float32' }, 'TN']);
}
// Until the clocks are up.
for (let i = 0; i < 5; i++) await milliseconds({ sizes: [4096, 4096, 4096] }, 'NN', 40);
for (const [name, product, layout] of TIMED) {
  const [m, n, k] = product.sizes;
  const flops = 2 * m * n * k;
  const time = await milliseconds(product, layout, Math.max(1, Math.round(6e12 / flops)));
  const rate = flops / time / 1e9;
  const shape = `${m}×${n}×${k} ${layout} → ${product.output ?? 'float16'}`;
  console.log(
    `${name.padEnd(26)}${shape.padEnd(38)}${time.toFixed(3).padStart(9)} ms ${rate.toFixed(1).padStart(7)} TFLOP/s`,
  );
}
device.destroy();
process.exit(failed > 0 ? 1 : 0);
