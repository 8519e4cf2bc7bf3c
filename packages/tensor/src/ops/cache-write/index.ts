import { isFloat } from '../../core/dtype.js';
import { sameShape, shapeError, showShape } from '../../core/shape.js';
import { currentTape } from '../../core/tape.js';
import type { Tensor } from '../../core/tensor.js';
import { ZebraError } from '../../errors.js';
import { assertComputable, assertInt32 } from '../row/checks.js';
import { advanceKernel, cacheWriteKernel } from './cache-write.wgsl.js';

/**
 * Writes new rows into a cache in place: target[b, length + t] = source[b, t]. Positions at or past the capacity are
 * dropped; callers check the length they know. The position is data, so that a recorded program can decode on.
 *
 * Not differentiable: it throws where a gradient is wanted through it.
 *
 * @param target [B, C, R...], C the capacity in tokens; float32, float16, int32 or uint32
 * @param source [B, T, R...]; converted to the cache's dtype if both are floats, else of the same dtype
 * @param length int32 [1], tokens that the cache holds already, the same for every row of the batch
 * @throws ZebraError `shape`, `dtype`, or `argument` when a tape tracks the source or the target
 */
export function cacheWrite(target: Tensor, source: Tensor, length: Tensor): void {
  const { device } = target;
  if (source.device !== device || length.device !== device) {
    throw new ZebraError('device', 'cacheWrite: the inputs lie on different devices');
  }
  if (target.shape.length < 2) shapeError('cacheWrite', 'target', '[B, C, R...]', target.shape);
  const fits =
    source.shape.length === target.shape.length &&
    source.shape[0] === target.shape[0] &&
    sameShape(source.shape.slice(2), target.shape.slice(2));
  if (!fits) {
    const expected = [target.shape[0], 'T', ...target.shape.slice(2)].join(', ');
    shapeError('cacheWrite', 'source', `[${expected}] for target ${showShape(target.shape)}`, source.shape);
  }
  if (isFloat(target.dtype) || isFloat(source.dtype)) {
    assertComputable('cacheWrite', 'target', target);
    assertComputable('cacheWrite', 'source', source);
  } else if (source.dtype !== target.dtype) {
    throw new ZebraError('dtype', `cacheWrite: source must be ${target.dtype} like the cache, got ${source.dtype}`);
  }
  assertCounter('cacheWrite', 'length', length);
  if (currentTape()?.tracks([target, source])) {
    throw new ZebraError(
      'argument',
      'cacheWrite: no gradient flows through a cache. Run generation outside of valueAndGradients().',
    );
  }
  const [batches, capacity] = target.shape as [number, number];
  const row = target.size / (batches * capacity);
  const width = row % 4 === 0 ? 4 : 1;
  const count = source.size / width;
  device.dispatch(cacheWriteKernel, {
    bindings: { rows: target.range(), values: source.range(), at: length.range() },
    params: { count, tokens: source.shape[1]!, capacity, units: row / width },
    constants: { width },
    groups: Math.ceil(count / device.workgroupOf(cacheWriteKernel)),
  });
}

/**
 * Adds `by` to a counter in place: the length of a cache, in a recorded program.
 *
 * @param counter int32 [1]
 * @param by an integer
 */
export function advance(counter: Tensor, by: number): void {
  assertCounter('advance', 'counter', counter);
  addInPlace('advance', counter, by);
}

/**
 * Adds `by` (1 by default) to every element in place: the rotary positions of a batch, in a recorded program.
 *
 * @param positions int32, any shape
 */
export function advanceAll(positions: Tensor, by = 1): void {
  assertInt32('advanceAll', 'positions', positions);
  addInPlace('advanceAll', positions, by);
}

function addInPlace(operation: string, x: Tensor, by: number): void {
  if (!Number.isInteger(by) || Math.abs(by) > 0x7fffffff) {
    throw new ZebraError('argument', `${operation}: by must be an int32, got ${by}`);
  }
  x.device.dispatch(advanceKernel, {
    bindings: { x: x.range() },
    params: { count: x.size, by },
    groups: Math.ceil(x.size / x.device.workgroupOf(advanceKernel)),
  });
}

function assertCounter(operation: string, argument: string, tensor: Tensor): void {
  assertInt32(operation, argument, tensor);
  if (tensor.size !== 1) shapeError(operation, argument, '[1]', tensor.shape);
}
