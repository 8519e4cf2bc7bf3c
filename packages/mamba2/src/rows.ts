import { type DType, type Tensor, ZebraError } from '@zebra/tensor';

/**
 * Columns of a row-major [batch, time, width] tensor: element (b, t, c) lies at `offset + (b·T + t)·stride + c`. Lets a
 * kernel read its operand out of a wider row, such as the output of `in_proj`, without a copy.
 */
export interface Columns {
  readonly tensor: Tensor;
  readonly offset: number;
  readonly stride: number;
}

/** All columns of a tensor whose first two dimensions are batch and time, from `offset` on. */
export function columns(tensor: Tensor, offset = 0): Columns {
  return { tensor, offset, stride: tensor.size / (tensor.shape[0]! * tensor.shape[1]!) };
}

/**
 * WGSL for kernels with a `segments` binding and a param `length` (T): `padded(b, t)`, `starts(b, t)`.
 *
 * Padding (a negative number) is transparent: it neither reads nor changes a state. A document starts at a token whose
 * segment differs from the previous token's. With a state to continue from (`continued`), the first token that is not
 * padding continues it, which takes a look back over the leading padding.
 */
export function segmentHelpers(present: boolean, continued: boolean): string {
  if (!present) {
    return /* wgsl */ `
fn padded(b: u32, t: u32) -> bool { return false; }
fn leading(b: u32, t: u32) -> bool { return t == 0u; }
fn starts(b: u32, t: u32) -> bool { return ${continued ? 'false' : 't == 0u'}; }`;
  }
  return /* wgsl */ `
fn padded(b: u32, t: u32) -> bool { return segments[b * p.length + t] < 0; }
fn leading(b: u32, t: u32) -> bool {
  var i = t;
  while (i > 0u) {
    i--;
    if (segments[b * p.length + i] >= 0) { return false; }
  }
  return true;
}
fn starts(b: u32, t: u32) -> bool {
  if (t == 0u) { return ${continued ? 'false' : 'true'}; }
  let mine = segments[b * p.length + t];
  let previous = segments[b * p.length + t - 1u];
  if (mine < 0 || mine == previous) { return false; }
  return ${continued ? 'previous >= 0 || !leading(b, t)' : 'true'};
}`;
}

/** Float64 twin of `starts` and `padded`, for references. */
export function segmentRules(segments: ArrayLike<number> | undefined, length: number, continued: boolean) {
  const at = (b: number, t: number) => (segments ? segments[b * length + t]! : 0);
  const leading = (b: number, t: number): boolean => {
    for (let i = 0; i < t; i++) if (at(b, i) >= 0) return false;
    return true;
  };
  return {
    padded: (b: number, t: number): boolean => at(b, t) < 0,
    starts(b: number, t: number): boolean {
      if (at(b, t) < 0) return false;
      if (leading(b, t)) return !continued;
      return at(b, t) !== at(b, t - 1);
    },
  };
}

/** Throws unless a tensor (or spec) has the shape and dtype that an argument must have. */
export function expectArgument(
  operation: string,
  argument: string,
  got: { readonly shape: readonly number[]; readonly dtype: DType } | undefined,
  shape: readonly number[],
  kind: 'float' | 'float32' | 'int32' = 'float',
): void {
  if (!got) throw new ZebraError('argument', `${operation}: ${argument} of shape [${shape.join(', ')}] is missing`);
  if (got.shape.length !== shape.length || shape.some((size, d) => size !== got.shape[d])) {
    throw new ZebraError(
      'shape',
      `${operation}: ${argument} must have shape [${shape.join(', ')}], got [${got.shape.join(', ')}]`,
    );
  }
  const fits = kind === 'float' ? got.dtype === 'float32' || got.dtype === 'float16' : got.dtype === kind;
  if (!fits)
    throw new ZebraError(
      'dtype',
      `${operation}: ${argument} must be ${kind === 'float' ? 'float32 or float16' : kind}, got ${got.dtype}`,
    );
}
