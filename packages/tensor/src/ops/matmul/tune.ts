import { empty } from '../../core/create.js';
import { keep, scope } from '../../core/scope.js';
import type { Tensor } from '../../core/tensor.js';
import type { Device } from '../../device/device.js';
import { ZebraError } from '../../errors.js';
import { randomNormal } from '../../random/normal.js';
import { chooseChunk, chooseKernel, type MatmulSituation } from './choose.js';
import { matmulInto } from './matmul.js';
import { type MatrixPlan, matrixMatmul } from './matrix.wgsl.js';
import { LARGE_PLAN, type MatmulPick, picksOf, productKey, SMALL_PLAN } from './plans.js';
import { openTuneCache } from './tune-cache.js';

/** A product of float16 matrices to be tuned: [m, k] · [k, n]. A linear layer's m is the number of all its rows. */
export interface MatmulProduct {
  readonly m: number;
  readonly n: number;
  readonly k: number;
  /** `a` is stored as [k, m], as in the gradient of a weight. Default false. */
  readonly transposeA?: boolean;
  /** `b` is stored as [n, k], as the weight of a linear layer is. Default false. */
  readonly transposeB?: boolean;
  /** dtype of the result. Default float16. */
  readonly dtype?: 'float16' | 'float32';
}

/** One way to compute a product, and the time it took. */
export interface MatmulCandidate {
  readonly plan: MatrixPlan;
  readonly pieces: number;
  readonly milliseconds: number;
}

/** What tuning found for one product. */
export interface TunedMatmul {
  readonly product: MatmulProduct;
  readonly plan: MatrixPlan;
  readonly pieces: number;
  /** The pick was found before, on disk or by an earlier call: nothing was measured. */
  readonly cached: boolean;
  /** What was measured, fastest first. */
  readonly candidates: readonly MatmulCandidate[];
}

/** Options of {@link tuneMatmul}. */
export interface TuneMatmulOptions {
  /**
   * Where picks are kept between processes; false: nowhere. Default in Node `$XDG_CACHE_HOME/zebra` or `~/.cache/zebra`;
   * a browser keeps none.
   */
  readonly folder?: string | false;
  /** Measure again what is known already. Default false. */
  readonly again?: boolean;
  /** Plans to try; those that an adapter cannot run are left out. Default: a dozen that did well somewhere. */
  readonly plans?: readonly MatrixPlan[];
  /** Milliseconds of one measurement, of which each candidate has three. Default 10. */
  readonly sample?: number;
}

const variants = (...changes: readonly Partial<MatrixPlan>[]): MatrixPlan[] =>
  changes.map((change) => ({ ...LARGE_PLAN, ...change }));

const PLANS: readonly MatrixPlan[] = [
  ...variants(
    {},
    { group: 8 },
    { group: 11 },
    { buffers: 2 },
    { rows: 256 },
    { columns: 256 },
    { columns: 64, subgroupColumns: 32 },
    { rows: 64, subgroupRows: 32 },
  ),
  SMALL_PLAN,
];

/** Pieces of the sum over k that are tried besides what the table says. */
const PIECES = [1, 2, 3, 4, 6, 8];

/** Fewer steps than this make a piece that is mostly beginning and end. */
const SHORTEST_PIECE = 512;

/**
 * Finds the fastest way to compute products of float16 matrices on the matrix units of a device, by running them, and
 * lets every later product of the same sizes, layout and result dtype on this device be computed so (also in programs
 * captured later, not in those captured before). Picks are kept on disk by adapter, driver and kernel, and found there
 * again: with the same file a product is computed the same way every time, so that its bits are the same; a pick that
 * is measured anew may differ, and with it the last bits of sums. Without this call a fixed table chooses.
 *
 * Takes 0.1 to 1 s a product. On devices without matrix units it does nothing and returns an empty list.
 *
 * @param products in any order; those that the matrix units do not compute (sides under 32) are left out
 * @throws ZebraError `program` while a program is captured, `memory` for products that do not fit the device
 */
export async function tuneMatmul(
  device: Device,
  products: readonly MatmulProduct[],
  options: TuneMatmulOptions = {},
): Promise<TunedMatmul[]> {
  if (device.capturing) throw new ZebraError('program', 'tuneMatmul: call it before a program is captured');
  const { folder, again = false, plans = PLANS, sample = 10 } = options;
  const picks = picksOf(device);
  const cache = folder === false ? undefined : await openTuneCache(device, folder);
  const kept = new Map(cache?.picks);
  for (const [key, pick] of kept) if (!picks.has(key)) picks.set(key, pick);
  const tuned: TunedMatmul[] = [];
  for (const product of products) {
    const situation = situationOf(product);
    const key = productKey(situation);
    if (chooseKernel(device.info, situation).kernel !== matrixMatmul) continue;
    const known = again ? undefined : picks.get(key);
    const candidates = known ? [] : await measureAll(device, product, situation, plans, sample);
    const pick = known ?? candidates[0];
    if (!pick) continue;
    const { plan, pieces } = pick;
    picks.set(key, { plan, pieces });
    kept.set(key, { plan, pieces });
    tuned.push({ product, plan, pieces, cached: known !== undefined, candidates });
  }
  if (tuned.some(({ cached }) => !cached)) await cache?.write(kept);
  return tuned;
}

function situationOf({ m, n, k, transposeA = false, transposeB = false, dtype = 'float16' }: MatmulProduct) {
  const aligned = (length: number) => [8, 4, 2].find((count) => length % count === 0) ?? 1;
  return {
    ...{ m, n, k, batch: 1 },
    a: { dtype: 'float16', aligned: aligned(transposeA ? m : k), alongK: !transposeA },
    b: { dtype: 'float16', aligned: aligned(transposeB ? k : n), alongK: transposeB },
    c: { dtype, aligned: aligned(n), alongN: true },
  } satisfies MatmulSituation;
}

/** Ways to compute a product that differ in what the device would run. */
function picksToTry(device: Device, situation: MatmulSituation, plans: readonly MatrixPlan[]): MatmulPick[] {
  const { m, n, k } = situation;
  const picks = new Map<string, MatmulPick>();
  for (const plan of plans) {
    const groups = Math.ceil(m / plan.rows) * Math.ceil(n / plan.columns);
    const table = chooseKernel(device.info, situation, { plan, pieces: 1 });
    if (table.pieces === undefined) continue;
    const usual = Math.ceil(k / chooseChunk(k, groups, { ...table, pieces: Math.ceil(table.fullGroups / groups) }));
    for (const pieces of new Set([usual, ...PIECES])) {
      // Many tiles need no pieces.
      if (pieces > 1 && pieces !== usual && (k / pieces < SHORTEST_PIECE || groups >= 2 * table.fullGroups)) continue;
      picks.set(JSON.stringify([plan, pieces]), { plan, pieces });
    }
  }
  return [...picks.values()];
}

async function measureAll(
  device: Device,
  product: MatmulProduct,
  situation: MatmulSituation,
  plans: readonly MatrixPlan[],
  sample: number,
): Promise<MatmulCandidate[]> {
  const { m, n, k, transposeA = false, transposeB = false, dtype = 'float16' } = product;
  const picks = picksOf(device);
  const key = productKey(situation);
  const before = picks.get(key);
  const made = scope(() => {
    const operand = (shape: readonly [number, number], seed: number) =>
      keep(randomNormal(device, shape, { seed, dtype: 'float16' }));
    const a = operand(transposeA ? [k, m] : [m, k], 1);
    const b = operand(transposeB ? [n, k] : [k, n], 2);
    return { a, b, out: keep(empty(device, [m, n], { dtype })) };
  });
  const candidates: MatmulCandidate[] = [];
  try {
    for (const pick of picksToTry(device, situation, plans)) {
      picks.set(key, pick);
      candidates.push({ ...pick, milliseconds: await measure(device, made, { transposeA, transposeB }, sample) });
    }
  } finally {
    if (before) picks.set(key, before);
    else picks.delete(key);
    for (const tensor of Object.values(made)) tensor.dispose();
  }
  return candidates.sort((one, other) => one.milliseconds - other.milliseconds);
}

/** Samples of a candidate: the best counts, since everything that disturbs makes it slower. */
const SAMPLES = 3;

async function measure(
  device: Device,
  { a, b, out }: { readonly a: Tensor; readonly b: Tensor; readonly out: Tensor },
  transposes: { readonly transposeA: boolean; readonly transposeB: boolean },
  sample: number,
): Promise<number> {
  const time = async (repeats: number): Promise<number> => {
    const program = device.capture(() => {
      for (let i = 0; i < repeats; i++) matmulInto(out, a, b, transposes);
    });
    let best = Number.POSITIVE_INFINITY;
    for (let i = 0; i < (repeats === 1 ? 2 : SAMPLES); i++) {
      await device.synchronize();
      const begin = performance.now();
      program.run();
      await device.synchronize();
      best = Math.min(best, performance.now() - begin);
    }
    program.dispose();
    return best;
  };
  // One run holds up to a millisecond of waiting, so that it overrates short products: they get a second look.
  let repeats = 1;
  let total = await time(repeats);
  while (total < sample && repeats < 1000) {
    repeats = Math.min(1000, Math.ceil(repeats * Math.min(20, (1.2 * sample) / Math.max(total, 0.01))));
    total = await time(repeats);
  }
  return total / repeats;
}
