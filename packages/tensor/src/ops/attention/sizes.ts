import type { TensorSpec } from '../../core/shape.js';
import { dtypeError, sameShape, shapeError, showShape } from '../../core/shape.js';

/** Attributes of the attention operation. */
export interface AttentionAttributes {
  /** Factor on the scores. */
  readonly scale: number;
  /** Leading elements of a row of v that are the value; all of them when not given. */
  readonly valueSize?: number;
}

/** The sizes of one call. */
export interface Sizes {
  readonly batch: number;
  readonly queries: number;
  readonly keys: number;
  readonly heads: number;
  readonly keyHeads: number;
  /** Query heads a key head. */
  readonly group: number;
  /** Elements of a query or key row. */
  readonly keySize: number;
  /** Elements of a value row. */
  readonly valueSize: number;
  /** Elements from one row of v to the next. */
  readonly valueWidth: number;
}

type Specs = readonly (TensorSpec | undefined)[];

/** Checks the inputs [q, k, v, segments, keySegments, keyLength] of an attention and returns its sizes. */
export function sizesOf(inputs: Specs, attributes: AttentionAttributes): Sizes {
  const [q, k, v] = inputs as readonly TensorSpec[];
  for (const [name, input] of Object.entries({ q: q!, k: k!, v: v! })) {
    if (input.dtype !== 'float32' && input.dtype !== 'float16')
      dtypeError('attention', name, 'float32 or float16', input.dtype);
    if (input.shape.length !== 4) shapeError('attention', name, 'of rank 4, [B, T, heads, size]', input.shape);
  }
  const [batch, queries, heads, keySize] = q!.shape as [number, number, number, number];
  const [, keys, keyHeads] = k!.shape as [number, number, number];
  const valueWidth = v!.shape[3]!;
  if (!sameShape(k!.shape, [batch, keys, keyHeads, keySize])) {
    shapeError('attention', 'k', `[${batch}, Tk, Hkv, ${keySize}] to fit q ${showShape(q!.shape)}`, k!.shape);
  }
  if (!sameShape(v!.shape, [batch, keys, keyHeads, valueWidth])) {
    shapeError('attention', 'v', `[${batch}, ${keys}, ${keyHeads}, Dv] to fit k ${showShape(k!.shape)}`, v!.shape);
  }
  if (heads % keyHeads !== 0) shapeError('attention', 'k', `of a number of heads that divides q's ${heads}`, k!.shape);
  if (keys < queries)
    shapeError('attention', 'k', `at least as long as q's ${queries} tokens (new keys included)`, k!.shape);
  const valueSize = attributes.valueSize ?? valueWidth;
  if (!Number.isSafeInteger(valueSize) || valueSize < 1 || valueSize > valueWidth) {
    shapeError('attention', 'valueSize', `an integer from 1 to v's row size ${valueWidth}`, String(valueSize));
  }
  checkMask(inputs, batch, queries, keys);
  return { batch, queries, keys, heads, keyHeads, group: heads / keyHeads, keySize, valueSize, valueWidth };
}

function checkMask(
  [, , , segments, keySegments, keyLength]: Specs,
  batch: number,
  queries: number,
  keys: number,
): void {
  const check = (name: string, spec: TensorSpec | undefined, shape: readonly number[]) => {
    if (!spec) return;
    if (spec.dtype !== 'int32') dtypeError('attention', name, 'int32', spec.dtype);
    if (!sameShape(spec.shape, shape)) shapeError('attention', name, showShape(shape), spec.shape);
  };
  check('segments', segments, [batch, queries]);
  check('keySegments', keySegments, [batch, keys]);
  check('keyLength', keyLength, [1]);
  if (segments && !keySegments && keys !== queries) {
    shapeError('attention', 'keySegments', `given, [${batch}, ${keys}], where k is longer than q`, 'nothing');
  }
  if (keySegments && !segments)
    shapeError('attention', 'segments', `given, [${batch}, ${queries}], with keySegments`, 'nothing');
}
