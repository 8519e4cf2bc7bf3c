import { type Shape, sameShape, shapeError, showShape, type TensorSpec } from '../../core/shape.js';
import { ZebraError } from '../../errors.js';
import { assertInt32 } from '../row/checks.js';

/** Which rows count: those with a target inside the vocabulary, or those whose mask is not 0. */
export type Selection =
  | { readonly kind: 'targets'; readonly ignoreIndex: number; readonly vocabulary: number }
  | { readonly kind: 'mask' };

/** The target that marks a row as not counting, as in PyTorch. */
export const IGNORE_INDEX = -100;

/** Below it lies only −∞. Maxima start here, so that x − maximum is never ∞ − ∞. */
export const LOWEST = '-3.402823e38';

const INT32_MIN = -(2 ** 31);
const INT32_MAX = 2 ** 31 - 1;

/** Parameters of kernels that use {@link SELECTED}: a row counts whose value is within the two ends and not `ignore`. */
export const SELECTION_PARAMS = { lowest: 'i32', highest: 'i32', ignore: 'i32' } as const;

/** Values of {@link SELECTION_PARAMS}. */
export function selectionParams(selection: Selection | undefined): { lowest: number; highest: number; ignore: number } {
  if (selection?.kind === 'targets') {
    return { lowest: 0, highest: selection.vocabulary - 1, ignore: selection.ignoreIndex };
  }
  return { lowest: INT32_MIN, highest: INT32_MAX, ignore: 0 };
}

/** WGSL function `selected(value)` over {@link SELECTION_PARAMS}. */
export const SELECTED = /* wgsl */ `
fn selected(value: i32) -> bool { return value >= p.lowest && value <= p.highest && value != p.ignore; }`;

/** Host twin of {@link SELECTED}. */
export function isSelected(selection: Selection | undefined, value: number): boolean {
  const { lowest, highest, ignore } = selectionParams(selection);
  return value >= lowest && value <= highest && value !== ignore;
}

/** Throws unless a selection is int32 of the rows' shape. */
export function assertSelection(operation: string, argument: string, selection: TensorSpec, rows: Shape): void {
  assertInt32(operation, argument, selection);
  if (!sameShape(selection.shape, rows)) shapeError(operation, argument, showShape(rows), selection.shape);
}

/** Throws unless a target that marks ignored rows fits int32. */
export function assertIgnoreIndex(operation: string, ignoreIndex: number): void {
  if (!Number.isInteger(ignoreIndex) || ignoreIndex < INT32_MIN || ignoreIndex > INT32_MAX) {
    throw new ZebraError('argument', `${operation}: ignoreIndex must be a 32-bit integer, got ${ignoreIndex}`);
  }
}
