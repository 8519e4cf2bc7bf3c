import { type Shape, shapeError, type TensorSpec } from '../../core/shape.js';
import type { Tensor } from '../../core/tensor.js';
import { ZebraError } from '../../errors.js';
import { assertComputable } from '../row/checks.js';

/**
 * Scores over a vocabulary: given as they are, or as hidden states and the head weight that makes them
 * (logits = hidden · headᵀ), which are then never all in memory at once.
 *
 * Shapes: N rows, or B sequences of T tokens; D hidden size, V vocabulary.
 */
export type Logits = HiddenLogits | PlainLogits;

/** Logits as hidden states and a head weight. */
export interface HiddenLogits {
  /** [N, D] or [B, T, D], float32 or float16. */
  readonly hidden: Tensor;
  /** [V, D], float32 or float16. */
  readonly head: Tensor;
  readonly logits?: never;
}

/** Logits in memory. */
export interface PlainLogits {
  /** [N, V] or [B, T, V], float32 or float16. */
  readonly logits: Tensor;
  readonly hidden?: never;
  readonly head?: never;
}

/** Logits as two inputs of an operation: hidden states and head, or the logits and nothing. */
export function logitInputs(operation: string, source: Logits, prefix = ''): [x: Tensor, head: Tensor | undefined] {
  const { hidden, head, logits } = source;
  if (logits ? hidden || head : !hidden || !head) {
    throw new ZebraError('argument', `${operation}: give either ${prefix}hidden and ${prefix}head, or ${prefix}logits`);
  }
  return logits ? [logits, undefined] : [hidden as Tensor, head];
}

/** Sizes of logits. */
export interface LogitsGeometry {
  /** Leading dimensions: [N] or [B, T]. */
  readonly lead: Shape;
  readonly rows: number;
  /** V. */
  readonly columns: number;
}

/** Checks logits given as two inputs. `prefix` names them in messages (`teacher.` or nothing). */
export function logitsGeometry(operation: string, prefix: string, x: TensorSpec, head?: TensorSpec): LogitsGeometry {
  const name = `${prefix}${head ? 'hidden' : 'logits'}`;
  assertComputable(operation, name, x);
  if (x.shape.length < 2) shapeError(operation, name, head ? '[N, D] or [B, T, D]' : '[N, V] or [B, T, V]', x.shape);
  const width = x.shape[x.shape.length - 1]!;
  if (head) {
    assertComputable(operation, `${prefix}head`, head);
    if (head.shape.length !== 2 || head.shape[1] !== width) {
      shapeError(operation, `${prefix}head`, `[V, ${width}]`, head.shape);
    }
  }
  const lead = x.shape.slice(0, -1);
  return { lead, rows: lead.reduce((a, b) => a * b, 1), columns: head ? head.shape[0]! : width };
}

/** V. */
export function vocabularyOf(source: Logits): number {
  const { shape } = source.logits ?? source.head;
  return source.logits ? shape[shape.length - 1]! : shape[0]!;
}

/** How the losses of rows become one: their mean, or not at all. */
export type Reduction = 'mean' | 'none';

/** Throws for a reduction that there is not. */
export function assertReduction(operation: string, reduction: string): void {
  if (reduction !== 'mean' && reduction !== 'none') {
    throw new ZebraError('argument', `${operation}: reduction must be 'mean' or 'none', got ${String(reduction)}`);
  }
}
