import type { DType } from '../../core/dtype.js';
import { dtypeError, elementCount, type Shape, shapeError } from '../../core/shape.js';

/** The dimension that `axis` names: itself, or counted from the end where it is negative. Throws when there is none. */
export function resolveAxis(operation: string, shape: Shape, axis: number): number {
  const resolved = axis < 0 ? axis + shape.length : axis;
  if (!Number.isInteger(axis) || resolved < 0 || resolved >= shape.length) {
    shapeError(operation, 'axis', `a dimension of ${shape.length}`, String(axis));
  }
  return resolved;
}

/** `shape` with another size along one dimension. */
export function withSize(shape: Shape, axis: number, size: number): Shape {
  return shape.map((given, d) => (d === axis ? size : given));
}

/** Elements before the axis (as a product of sizes) and after it. */
export function aroundAxis(shape: Shape, axis: number): { outer: number; inner: number } {
  return { outer: elementCount(shape.slice(0, axis)), inner: elementCount(shape.slice(axis + 1)) };
}

/** Throws for bfloat16, whose elements no kernel can address one by one. */
export function assertMovable(operation: string, argument: string, dtype: DType): void {
  if (dtype === 'bfloat16') dtypeError(operation, argument, 'of a dtype that kernels can address', dtype);
}
