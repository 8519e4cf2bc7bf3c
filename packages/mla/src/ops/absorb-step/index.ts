import { allocateTensor, type RopeTables, type Tensor, ZebraError } from '@zebra/tensor';
import { assertActivation, shapeError } from '../../shapes.js';
import { vectorWidth } from '../vectors.js';
import { absorbStepKernel } from './absorb-step.wgsl.js';

/** Arguments of {@link absorbStep}. */
export interface AbsorbStepArguments {
  /** Queries before rotation, [B, 1, H·(nope + rope)]. */
  readonly q: Tensor;
  /** Rows that end with [latent | rotary key] before norm and rotation, [B, 1, ≥ latent + rope]. */
  readonly down: Tensor;
  /** `kv_b_proj.weight`, [n·(nope + value), latent]. */
  readonly weight: Tensor;
  /** RMSNorm of the latent. Default: none. */
  readonly norm?: { readonly weight: Tensor; readonly eps: number } | undefined;
  readonly tables: RopeTables;
  /** int32 [B, 1]. Default: 0. */
  readonly positions?: Tensor | undefined;
  /** int32 [1]: tokens in the cache already. */
  readonly length: Tensor;
  /** The cache, [B, C, latent + rope], written in place. */
  readonly rows: Tensor;
  readonly headCount: number;
  readonly nopeSize: number;
  readonly valueSize: number;
}

/**
 * One token a row, in one dispatch: rotates the queries and takes them into the latent space (as rope and absorbQueries
 * do), and appends the token's latent, normed, and rotated key to the cache. No gradient.
 *
 * @returns [B, 1, H, latent + rope] of the cache's dtype, owned by the caller
 * @throws ZebraError `shape` or `dtype` where the arguments do not fit
 */
export function absorbStep(args: AbsorbStepArguments): Tensor {
  const { q, down, weight, norm, tables, positions, length, rows, headCount, nopeSize, valueSize } = args;
  const name = 'absorbStep';
  assertActivation(name, 'q', q, ['B', '1', 'heads · (nope + rope)']);
  assertActivation(name, 'down', down, ['B', '1', '≥ latent + rope']);
  assertActivation(name, 'weight', weight, ['n·(nope + value)', 'latent']);
  assertActivation(name, 'rows', rows, ['B', 'C', 'latent + rope']);
  const [batch, capacity, size] = rows.shape as [number, number, number];
  const latent = weight.shape[1]!;
  const ropeSize = size - latent;
  const query = nopeSize + ropeSize;
  const keyHeads = weight.shape[0]! / (nopeSize + valueSize);
  if (q.shape[0] !== batch || q.shape[1] !== 1 || q.shape[2] !== headCount * query)
    shapeError(name, 'q', `[${batch}, 1, ${headCount * query}]`, q.shape);
  if (down.shape[0] !== batch || down.shape[1] !== 1 || down.shape[2]! < size)
    shapeError(name, 'down', `[${batch}, 1, at least ${size}]`, down.shape);
  if (!Number.isSafeInteger(keyHeads) || headCount % keyHeads !== 0)
    shapeError(name, 'weight', `of n·${nopeSize + valueSize} rows, n a divisor of ${headCount} heads`, weight.shape);
  if (tables.cos.shape[1] !== ropeSize / 2) shapeError(name, 'tables', `[P, ${ropeSize / 2}]`, tables.cos.shape);
  if (length.dtype !== 'int32' || length.size !== 1 || (positions && positions.dtype !== 'int32'))
    throw new ZebraError('dtype', `${name}: length must be int32 [1], positions int32`);
  if (positions && positions.size !== batch) shapeError(name, 'positions', `[${batch}, 1]`, positions.shape);
  const y = allocateTensor(q.device, { shape: [batch, 1, headCount, size], dtype: rows.dtype });
  const width = vectorWidth(latent, ropeSize);
  const units = size / width;
  const count = batch * (headCount + 1) * units;
  q.device.dispatch(absorbStepKernel, {
    bindings: {
      q: q.range(),
      down: down.range(),
      weight: weight.range(),
      norm: norm?.weight.range(),
      cos_table: tables.cos.range(),
      sin_table: tables.sin.range(),
      positions: positions?.range(),
      length: length.range(),
      y: y.range(),
      rows: rows.range(),
    },
    params: {
      count,
      heads: headCount,
      group: headCount / keyHeads,
      up: nopeSize + valueSize,
      nope: nopeSize,
      latent: latent / width,
      units,
      query,
      down_stride: down.shape[2]!,
      down_start: down.shape[2]! - size,
      pairs: ropeSize / 2,
      table_rows: tables.cos.shape[0]!,
      capacity,
      eps: norm?.eps ?? 0,
    },
    constants: { width },
    groups: Math.ceil(count / q.device.workgroupOf(absorbStepKernel)),
  });
  return y;
}
