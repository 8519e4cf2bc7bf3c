import { allocateTensor } from '../../core/define-op.js';
import { sameShape, shapeError } from '../../core/shape.js';
import { currentTape } from '../../core/tape.js';
import type { Tensor } from '../../core/tensor.js';
import { ZebraError } from '../../errors.js';
import type { RopeTables } from '../rope/index.js';
import { assertComputable, assertInt32 } from '../row/checks.js';
import { ropeCacheKernel } from './rope-cache.wgsl.js';

/** Arguments of {@link ropeIntoCache}. */
export interface RopeIntoCacheArguments {
  /** Queries, keys and values of every token side by side, [B, T, (H + 2·K)·h], float32 or float16. */
  readonly rows: Tensor;
  /** cos and sin, [P, h/2]: whole heads are rotated. */
  readonly tables: RopeTables;
  /** int32 [B, T]. Default: 0…T−1. */
  readonly positions?: Tensor | undefined;
  /** [B, C, K, h] each, written in place; converted to their dtype. */
  readonly keys: Tensor;
  readonly values: Tensor;
  /** int32 [1], tokens that the caches hold already. */
  readonly length: Tensor;
}

/**
 * What attention does between its projections and its scores, in one dispatch: rotates queries and keys (half-split, as
 * `rope` does by default) and appends keys and values to their caches, as `cacheWrite` does. Not differentiable.
 *
 * @returns the rotated queries [B, T, H, h] of the rows' dtype, owned by the caller
 * @throws ZebraError `shape` or `dtype` where the arguments do not fit; `argument` when a tape tracks the rows
 */
export function ropeIntoCache(args: RopeIntoCacheArguments): Tensor {
  const { rows, tables, positions, keys, values, length } = args;
  const name = 'ropeIntoCache';
  for (const [argument, tensor] of Object.entries({ rows, keys, values })) assertComputable(name, argument, tensor);
  if (keys.shape.length !== 4) shapeError(name, 'keys', '[B, C, K, h]', keys.shape);
  if (!sameShape(keys.shape, values.shape)) shapeError(name, 'values', `[${keys.shape}] like keys`, values.shape);
  const [batch, capacity, keyHeads, size] = keys.shape as [number, number, number, number];
  const [, tokens = 0, columns = 0] = rows.shape;
  const heads = columns / size - 2 * keyHeads;
  if (rows.shape.length !== 3 || rows.shape[0] !== batch || !Number.isInteger(heads) || heads < 1) {
    shapeError(name, 'rows', `[${batch}, T, (H + ${2 * keyHeads}) · ${size}]`, rows.shape);
  }
  const { cos, sin } = tables;
  if (cos.shape[1] !== size / 2 || !sameShape(cos.shape, sin.shape)) {
    shapeError(name, 'tables', `[P, ${size / 2}]`, cos.shape);
  }
  if (positions) {
    assertInt32(name, 'positions', positions);
    if (!sameShape(positions.shape, [batch, tokens]))
      shapeError(name, 'positions', `[${batch}, ${tokens}]`, positions.shape);
  }
  assertInt32(name, 'length', length);
  if (length.size !== 1) shapeError(name, 'length', '[1]', length.shape);
  if (currentTape()?.tracks([rows, keys, values])) {
    throw new ZebraError('argument', `${name}: no gradient flows through a cache`);
  }
  const q = allocateTensor(rows.device, { shape: [batch, tokens, heads, size], dtype: rows.dtype });
  const width = (size / 2) % 4 === 0 ? 4 : 1;
  const pairs = size / 2 / width;
  const count = batch * tokens * (heads + 2 * keyHeads) * pairs;
  rows.device.dispatch(ropeCacheKernel, {
    bindings: {
      rows: rows.range(),
      cos_table: cos.range(),
      sin_table: sin.range(),
      positions: positions?.range(),
      length: length.range(),
      q: q.range(),
      keys: keys.range(),
      values: values.range(),
    },
    params: { count, heads, key_heads: keyHeads, tokens, capacity, pairs, table_rows: cos.shape[0]! },
    constants: { width },
    groups: Math.ceil(count / rows.device.workgroupOf(ropeCacheKernel)),
  });
  return q;
}
