import { type DType, type Shape, type TensorSpec, ZebraError } from '@zebra/tensor';

/** `[2, 3]` as text, for messages. */
const show = (shape: readonly (number | string)[]): string => `[${shape.join(', ')}]`;

/** Throws an error about the shape of one argument. */
export function shapeError(operation: string, argument: string, expected: string, got: Shape | string): never {
  const shown = typeof got === 'string' ? got : show(got);
  throw new ZebraError('shape', `${operation}: ${argument} must be ${expected}, got ${shown}`);
}

/** Throws unless the leading dimensions of a shape are the given ones. */
export function assertLeading(
  operation: string,
  argument: string,
  shape: Shape,
  lead: Shape,
  rest: string[] = [],
): void {
  if (shape.length !== lead.length + rest.length || lead.some((size, d) => shape[d] !== size)) {
    shapeError(operation, argument, show([...lead, ...rest]), shape);
  }
}

/** Throws unless a dtype is one that kernels compute in. */
export function assertComputable(operation: string, argument: string, dtype: DType): void {
  if (dtype !== 'float32' && dtype !== 'float16') {
    throw new ZebraError(
      'dtype',
      `${operation}: ${argument} must be float32 or float16, got ${dtype}. Cast it with cast().`,
    );
  }
}

/** Throws unless a tensor has the rank of `form` and a dtype that kernels compute in. */
export function assertActivation(operation: string, argument: string, spec: TensorSpec, form: readonly string[]): void {
  assertComputable(operation, argument, spec.dtype);
  if (spec.shape.length !== form.length) shapeError(operation, argument, show(form), spec.shape);
}
