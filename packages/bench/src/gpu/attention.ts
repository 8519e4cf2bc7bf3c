/**
 * Attention on matrix units, on a GPU: first held to the float32 kernels, then timed, forward and each gradient kernel
 * apart, over the tiles that a workgroup may take. Exits with 1 where a result is wrong.
 *
 *   node --conditions=@zebra/source --import tsx packages/bench/src/gpu/attention.ts [--small] [--raw]
 *     [--pass forward,query,key] [--shape NAME] [--no-sweep] [--config pass:rows,step,subgroups,scoreRows,buffers,prefetch]
 *
 * `--small` takes tiny sizes on any adapter (whose matrix units are emulated); `--raw` opens the device without robust
 * access; `--config`, which may be repeated, adds a tile to those of its pass, as in `forward:128,32,4,32,1,1`. The line
 * `query` of the table includes the statistics that both gradients read (a few percent).
 */
import { parseArgs } from 'node:util';
import { cast, type Device, openDevice, randomNormal, scope, type Tensor, tensor } from '@zebra/tensor';
import { type AttentionTiles, attentionWithTiles } from '@zebra/tensor/testing';
import { emptyRoundTrip, timeRecorded } from './timing.js';

const { values } = parseArgs({
  options: {
    small: { type: 'boolean', default: false },
    raw: { type: 'boolean', default: false },
    pass: { type: 'string', default: 'forward,query,key' },
    shape: { type: 'string', default: '' },
    'no-sweep': { type: 'boolean', default: false },
    config: { type: 'string', multiple: true, default: [] },
  },
});
const { small } = values;
const device: Device = await openDevice(
  small ? { software: false, emulateMatrixUnits: true } : { adapter: 'hardware', robust: !values.raw },
);
const { description, subgroupMatrix, workgroupMemory } = device.info;
console.log(
  `${description}, ${values.raw ? 'not robust' : 'robust'}, matrix units: ${subgroupMatrix.length > 0}, ${workgroupMemory} bytes a workgroup`,
);

type Pass = keyof AttentionTiles;
type Tile = NonNullable<AttentionTiles[Pass]>;
const PASSES: readonly Pass[] = ['forward', 'query', 'key'];

/** Products [T, T, d] of each pass, of which the forward has two. */
const PRODUCTS: Record<Pass, number> = { forward: 2, query: 3, key: 4 };

interface Sizes {
  readonly name: string;
  readonly batch: number;
  readonly tokens: number;
  readonly heads: number;
  readonly keyHeads: number;
  readonly size: number;
  /** Length of the documents of a row; one document without. */
  readonly document?: number;
}

let failures = 0;
let seed = 1;

interface Inputs {
  readonly q: Tensor;
  readonly k: Tensor;
  readonly v: Tensor;
  readonly g: Tensor;
  readonly segments: Tensor | undefined;
}

function inputsOf({ batch, tokens, heads, keyHeads, size, document }: Sizes): Inputs {
  const [q, k, v, g] = [heads, keyHeads, keyHeads, heads].map((n) =>
    randomNormal(device, [batch, tokens, n, size], { seed: seed++, dtype: 'float16' }),
  ) as [Tensor, Tensor, Tensor, Tensor];
  const ids = Int32Array.from({ length: batch * tokens }, (_, i) => Math.floor((i % tokens) / (document ?? tokens)));
  return { q, k, v, g, segments: document ? tensor(device, ids, [batch, tokens], { dtype: 'int32' }) : undefined };
}

function free(inputs: Inputs): void {
  for (const input of Object.values(inputs) as (Tensor | undefined)[]) input?.dispose();
}

const NEEDS: Record<'all' | 'query' | 'key', readonly boolean[]> = {
  all: [true, true, true, false, false, false],
  query: [true, false, false, false, false, false],
  key: [false, true, true, false, false, false],
};
const given = ({ q, k, v, segments }: Inputs) => [q, k, v, segments, undefined, undefined];

/** ‖a − b‖ / ‖b‖, and the largest difference over the root mean square of b. */
function errors(a: ArrayLike<number>, b: ArrayLike<number>): readonly [number, number] {
  let [difference, norm, most] = [0, 0, 0];
  for (let i = 0; i < b.length; i++) {
    const d = Math.abs(a[i]! - b[i]!);
    difference += d * d;
    norm += b[i]! ** 2;
    most = d > most || Number.isNaN(d) ? d : most;
  }
  return [Math.sqrt(difference / norm), most / Math.sqrt(norm / b.length)];
}

/** y, dq, dk, dv. */
function run(tiles: AttentionTiles, sizes: Sizes, inputs: Inputs): Tensor[] {
  const op = attentionWithTiles(tiles);
  const attributes = { scale: sizes.size ** -0.5 };
  const outputs = op.apply(given(inputs), attributes);
  const gradients = op.backward!({
    device,
    inputs: given(inputs),
    outputs,
    gradients: [inputs.g, undefined],
    attributes,
    needs: NEEDS.all,
  });
  return [outputs[0]!, ...gradients.slice(0, 3)] as Tensor[];
}

/** Holds a tile of every pass to the float32 kernels on the same numbers. */
async function check(sizes: Sizes, tiles: AttentionTiles, label: string): Promise<boolean> {
  const inputs = inputsOf(sizes);
  const got = scope(() => run(tiles, sizes, inputs)) as Tensor[];
  const wide = scope(() => {
    const [q, k, v, g] = [inputs.q, inputs.k, inputs.v, inputs.g].map((x) => cast(x, 'float32')) as [
      Tensor,
      Tensor,
      Tensor,
      Tensor,
    ];
    return run({}, sizes, { q, k, v, g, segments: inputs.segments });
  }) as Tensor[];
  let ok = true;
  const shown: string[] = [];
  for (const [i, name] of ['y', 'dq', 'dk', 'dv'].entries()) {
    const [norm, most] = errors(await got[i]!.read(), await wide[i]!.read());
    // Weights and the gradients of scores are rounded to float16 (2⁻¹²), and so are y and the results.
    const good = norm < 2e-3 && most < 5e-2;
    ok &&= good;
    shown.push(`${name} ${norm.toExponential(1)}/${most.toExponential(1)}${good ? '' : ' FAIL'}`);
  }
  if (!ok) failures++;
  console.log(`${ok ? 'ok  ' : 'FAIL'} ${label} ${sizes.name}: ${shown.join(', ')}`);
  for (const t of [...got, ...wide]) t.dispose();
  free(inputs);
  return ok;
}

const roundTrip = await emptyRoundTrip(device);

/** Milliseconds of one call: five samples of at least 12 ms. */
const time = (work: () => void): Promise<number> =>
  timeRecorded(device, work, { roundTrip, least: 12, samples: 5, small });

/** A pass, or the whole backward, of one shape with given tiles; null where one does not fit. */
async function timePass(
  pass: Pass | 'all',
  tiles: AttentionTiles,
  sizes: Sizes,
  inputs: Inputs,
): Promise<number | null> {
  const op = attentionWithTiles(tiles);
  const attributes = { scale: sizes.size ** -0.5 };
  const outputs = scope(() => attentionWithTiles(chosen).apply(given(inputs), attributes)) as Tensor[];
  const all = { device, inputs: given(inputs), outputs, attributes };
  const gradients = [inputs.g, undefined];
  try {
    return await time(() => {
      if (pass === 'forward') op.forward!(all);
      else op.backward!({ ...all, gradients, needs: NEEDS[pass] });
    });
  } catch (error) {
    if (error instanceof Error && /does not fit/.test(error.message)) return null;
    throw error;
  } finally {
    for (const output of outputs) output.dispose();
  }
}

const tile = (
  rows: number,
  step: number,
  subgroups: number,
  scoreRows: number,
  buffers: number,
  prefetch: boolean,
): Tile => ({ rows, step, subgroups, scoreRows, buffers, prefetch });

const nameOf = (t: Tile | undefined) =>
  t
    ? `${t.rows}×${t.step}, ${t.subgroups} subgroups of ${t.scoreRows}, ${t.buffers} buffers${t.prefetch ? ', fetched ahead' : ''}`
    : 'chosen';

/** Tiles to try, by pass. Those that do not fit heads or memory are left out. */
const SWEEP: Record<Pass, Tile[]> = {
  forward: [
    tile(128, 32, 4, 32, 1, true),
    tile(128, 32, 4, 32, 1, false),
    tile(64, 32, 2, 32, 1, true),
    tile(64, 64, 2, 32, 1, false),
    tile(64, 32, 4, 32, 1, true),
    tile(64, 32, 4, 16, 1, true),
    tile(64, 64, 4, 32, 1, true),
    tile(128, 32, 8, 32, 1, true),
    tile(128, 32, 8, 16, 1, true),
  ],
  query: [
    tile(64, 32, 4, 32, 2, true),
    tile(64, 32, 4, 32, 2, false),
    tile(64, 32, 4, 32, 1, true),
    tile(64, 32, 4, 16, 2, true),
    tile(64, 32, 2, 32, 1, true),
    tile(64, 32, 8, 16, 1, true),
    tile(32, 32, 2, 16, 2, true),
    tile(32, 64, 4, 16, 1, true),
  ],
  key: [
    tile(64, 32, 4, 32, 2, true),
    tile(64, 32, 4, 32, 2, false),
    tile(64, 32, 4, 32, 1, true),
    tile(64, 32, 4, 16, 2, true),
    tile(64, 32, 8, 16, 1, true),
    tile(32, 32, 2, 16, 2, true),
    tile(32, 32, 2, 32, 1, true),
    tile(32, 64, 4, 16, 1, true),
  ],
};
const passes = values.pass.split(',') as Pass[];
for (const text of values.config) {
  const [pass, numbers = ''] = text.split(':');
  const [rows, step, subgroups, scoreRows, buffers, ahead] = numbers.split(',').map(Number) as [
    number,
    number,
    number,
    number,
    number,
    number,
  ];
  SWEEP[pass as Pass].push(tile(rows, step, subgroups, scoreRows, buffers, ahead === 1));
}

const shape = (name: string, [batch, tokens, heads, keyHeads, size]: readonly number[], document?: number): Sizes => ({
  name,
  batch: batch!,
  tokens: tokens!,
  heads: heads!,
  keyHeads: keyHeads!,
  size: size!,
  ...(document && { document }),
});
const CHECKS = small
  ? [shape('B1 H2 Hkv1 T70 d32', [1, 70, 2, 1, 32])]
  : [
      shape('B2 H4 Hkv2 T300 d64', [2, 300, 4, 2, 64]),
      shape('B2 H4 Hkv2 T300 d128', [2, 300, 4, 2, 128]),
      shape('B2 H4 Hkv2 T300 d64, documents of 77', [2, 300, 4, 2, 64], 77),
      shape('B1 H32 T2048 d64', [1, 2048, 32, 32, 64]),
    ];
const SHAPES = small
  ? [shape('B1 H2 T64 d32', [1, 64, 2, 2, 32])]
  : [
      shape('B8 H32 T2048 d64', [8, 2048, 32, 32, 64]),
      shape('B8 H16 T2048 d128', [8, 2048, 16, 16, 128]),
      shape('B4 H32 Hkv8 T2048 d64', [4, 2048, 32, 8, 64]),
      shape('B4 H32 Hkv8 T2048 d64, documents of 512', [4, 2048, 32, 8, 64], 512),
    ];

const smallTile = tile(32, 32, 2, 16, 1, true);
const chosen: AttentionTiles = small ? { forward: smallTile, query: smallTile, key: smallTile } : {};
for (const sizes of CHECKS) await check(sizes, chosen, 'chosen');

/** Every tile of the sweep is held to the float32 kernels too, once, at heads of 64 (128 where it fits those alone). */
async function checkTile(pass: Pass, t: Tile): Promise<boolean> {
  for (const sizes of CHECKS.slice(0, 2)) {
    try {
      return await check(sizes, { ...chosen, [pass]: t }, `${pass} ${nameOf(t)}`);
    } catch (error) {
      if (!(error instanceof Error && /does not fit/.test(error.message))) throw error;
    }
  }
  return false;
}

const sweeps = small || values['no-sweep'] ? [] : passes;
const right = new Map<Pass, Tile[]>();
for (const pass of sweeps) {
  const good: Tile[] = [];
  for (const t of SWEEP[pass]) if (await checkTile(pass, t)) good.push(t);
  right.set(pass, good);
}
/** The tiles that were fastest at a head size: other shapes of that size take them. */
const best = new Map<number, AttentionTiles>();

for (const sizes of SHAPES.filter(({ name }) => name.includes(values.shape))) {
  const inputs = inputsOf(sizes);
  const { batch, tokens, heads, size } = sizes;
  const product = batch * heads * tokens * tokens * size; // Causal: half of 2 T² d.
  const known = best.get(size);
  const fastest: Partial<Record<Pass, Tile>> = {};
  for (const pass of passes.filter((name) => PASSES.includes(name))) {
    const rows: { ms: number; tile: Tile | undefined; label: string }[] = [];
    for (const t of [undefined, ...(known ? (known[pass] ? [known[pass]] : []) : (right.get(pass) ?? []))]) {
      const ms = await timePass(pass, t ? { ...chosen, [pass]: t } : chosen, sizes, inputs);
      if (ms === null) continue;
      const tflops = (PRODUCTS[pass] * product) / ms / 1e9;
      const label = `${ms.toFixed(3).padStart(8)} ms ${tflops.toFixed(0).padStart(4)} TFLOP/s  ${nameOf(t)}`;
      rows.push({ ms, tile: t, label });
    }
    rows.sort((a, b) => b.ms - a.ms);
    const winner = rows.at(-1)?.tile;
    if (winner) fastest[pass] = winner;
    console.log([`${sizes.name}, ${pass}`, ...rows.map(({ label }) => `  ${label}`)].join('\n'));
  }
  if (!known) best.set(size, fastest);
  const tiles = { ...chosen, ...(known ?? fastest) };
  const forward = await timePass('forward', tiles, sizes, inputs);
  const backward = await timePass('all', tiles, sizes, inputs);
  if (forward !== null && backward !== null) {
    console.log(
      `${sizes.name}, fastest tiles: forward ${forward.toFixed(3)} ms, forward and backward ${(forward + backward).toFixed(3)} ms`,
    );
  }
  free(inputs);
}
console.log('PyTorch at B8 H32 T2048 d64: forward 0.35 ms, forward and backward 1.65 ms');
console.log(failures === 0 ? 'all results agree' : `${failures} FAIL`);
device.destroy();
process.exitCode = failures === 0 ? 0 : 1;
