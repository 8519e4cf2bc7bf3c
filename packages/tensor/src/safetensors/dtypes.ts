import { SafetensorsError, show } from './errors.js';

/**
 * Bytes per element of each dtype, in the order by which the reference library
 * sorts tensors in a file (ascending here, written descending).
 */
const sizes = {
  BOOL: 1,
  U8: 1,
  I8: 1,
  F8_E5M2: 1,
  F8_E4M3: 1,
  F8_E8M0: 1,
  I16: 2,
  U16: 2,
  F16: 2,
  BF16: 2,
  I32: 4,
  U32: 4,
  F32: 4,
  F64: 8,
  I64: 8,
  U64: 8,
} as const;

/**
 * The element types of a safetensors file. The `F8_*` types can be read and
 * written as bytes; there is no conversion for them.
 */
export type SafetensorsDtype = keyof typeof sizes;

/** Every dtype, from the first to the last in the reference library's sort order. */
export const dtypes: readonly SafetensorsDtype[] = Object.freeze(Object.keys(sizes) as SafetensorsDtype[]);

const ranks: ReadonlyMap<string, number> = new Map(dtypes.map((dtype, rank) => [dtype, rank]));

/** Whether a string from outside names a dtype. */
export function isDtype(value: unknown): value is SafetensorsDtype {
  return typeof value === 'string' && ranks.has(value);
}

/** Bytes per element. Throws `SafetensorsError` ("dtype") for an unknown one. */
export function dtypeBytes(dtype: SafetensorsDtype): number {
  if (!isDtype(dtype)) {
    throw new SafetensorsError('dtype', {
      problem: 'unknown dtype',
      expected: `one of ${dtypes.join(', ')}`,
      got: show(dtype),
    });
  }
  return sizes[dtype];
}

/** The place of a dtype in the reference library's ascending sort order. */
export function dtypeRank(dtype: SafetensorsDtype): number {
  return ranks.get(dtype) ?? -1;
}

/**
 * Number of elements of a shape; 1 for a scalar's empty shape.
 * Undefined if a dimension isn't a non-negative safe integer or the product
 * passes 2^53 − 1 on the way.
 */
export function elementCount(shape: readonly number[]): number | undefined {
  let count = 1;
  for (const size of shape) {
    if (!Number.isSafeInteger(size) || size < 0) return undefined;
    count *= size;
    if (!Number.isSafeInteger(count)) return undefined;
  }
  return count;
}
