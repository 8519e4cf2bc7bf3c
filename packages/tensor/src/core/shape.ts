import { ZebraError } from '../errors.js';
import type { DType } from './dtype.js';

/** Sizes of a tensor's dimensions, outermost first; row-major and contiguous. */
export type Shape = readonly number[];

/** What the shape rule of an operation speaks of. */
export interface TensorSpec {
  readonly shape: Shape;
  readonly dtype: DType;
}

/** Number of elements of a shape. */
export function elementCount(shape: Shape): number {
  let count = 1;
  for (const size of shape) count *= size;
  return count;
}

/** `[2, 3]` as text, for messages. */
export function showShape(shape: Shape): string {
  return `[${shape.join(', ')}]`;
}

/** Whether two shapes are equal. */
export function sameShape(a: Shape, b: Shape): boolean {
  return a.length === b.length && a.every((size, i) => size === b[i]);
}

/** Throws unless every size is a positive safe integer and so is their product. */
export function assertShape(operation: string, shape: Shape): void {
  if (!Array.isArray(shape) || shape.some((size) => !Number.isSafeInteger(size) || size < 1)) {
    throw new ZebraError(
      'shape',
      `${operation}: a shape is a list of positive integers, got ${showShape(shape)}. Empty tensors do not exist here: skip the call instead.`,
    );
  }
  if (!Number.isSafeInteger(elementCount(shape))) {
    throw new ZebraError('shape', `${operation}: shape ${showShape(shape)} has too many elements`);
  }
}

/** Throws a shape error for one argument of one operation. */
export function shapeError(operation: string, argument: string, expected: string, got: Shape | string): never {
  const shown = typeof got === 'string' ? got : showShape(got);
  throw new ZebraError('shape', `${operation}: ${argument} must be ${expected}, got ${shown}`);
}

/** Throws a dtype error for one argument of one operation. */
export function dtypeError(operation: string, argument: string, expected: string, got: DType): never {
  throw new ZebraError('dtype', `${operation}: ${argument} must be ${expected}, got ${got}. Cast it with cast().`);
}

/** The shape that two shapes broadcast to (NumPy's rule), or undefined where they do not. */
export function broadcastShapes(a: Shape, b: Shape): number[] | undefined {
  const rank = Math.max(a.length, b.length);
  const out = new Array<number>(rank);
  for (let i = 0; i < rank; i++) {
    const x = a[a.length - rank + i] ?? 1;
    const y = b[b.length - rank + i] ?? 1;
    if (x !== y && x !== 1 && y !== 1) return undefined;
    out[i] = Math.max(x, y);
  }
  return out;
}
