import { ZebraError } from '../errors.js';
import { fill } from './create.js';
import { isFloat } from './dtype.js';
import { keep, scope, visitTensors } from './scope.js';
import { showShape } from './shape.js';
import { Tape, withTape } from './tape.js';
import type { Tensor } from './tensor.js';

/** What {@link valueAndGradients} gives. The caller owns all of it. */
export interface ValueAndGradients<T> {
  /** What the function returned. */
  readonly value: T;
  /** One gradient for each tensor asked for, of its shape and dtype; undefined where the loss does not depend on it. */
  readonly gradients: readonly (Tensor | undefined)[];
}

/** Options of {@link valueAndGradients}. */
export interface GradientOptions {
  /** Gradient of the loss itself: 1 by default; a loss scale for mixed precision, as a tensor so that it stays data. */
  readonly seed?: Tensor;
}

/**
 * Runs `f` and differentiates the scalar it returns (or the `loss` of the object it returns) with respect to tensors.
 *
 * Everything made on the way is freed; the value (with whatever else the object holds) and the gradients are kept.
 *
 * @throws ZebraError `shape` when the loss is not one element; `dtype` when it or a tensor asked for is an integer.
 */
export function valueAndGradients<T extends Tensor | { readonly loss: Tensor }>(
  f: () => T,
  tensors: readonly Tensor[],
  options: GradientOptions = {},
): ValueAndGradients<T> {
  for (const tensor of tensors) {
    if (!isFloat(tensor.dtype))
      throw new ZebraError('dtype', `valueAndGradients: a ${tensor.dtype} tensor has no gradient`);
  }
  const tape = new Tape(tensors.map((tensor) => tensor.id));
  let value: T;
  try {
    value = withTape(tape, () => scope(f));
  } catch (error) {
    tape.discard();
    throw error;
  }
  visitTensors(value, keep);
  const discard = () => {
    tape.discard();
    visitTensors(value, (made) => made.dispose());
  };
  const loss = 'loss' in value ? value.loss : (value as Tensor);
  if (loss.size !== 1) {
    discard();
    throw new ZebraError(
      'shape',
      `valueAndGradients: the loss must be one element, got shape ${showShape(loss.shape)}. Reduce it with sum() or mean().`,
    );
  }
  let leaves: Map<number, Tensor>;
  try {
    leaves = withTape(undefined, () => {
      const seed = options.seed ? options.seed.alias() : fill(loss.device, loss.shape, 1, { dtype: loss.dtype });
      return tape.backward(new Map([[loss.id, keep(seed)]]));
    });
  } catch (error) {
    discard();
    throw error;
  }
  const gradients = tensors.map((tensor) => {
    const gradient = leaves.get(tensor.id);
    leaves.delete(tensor.id);
    return gradient;
  });
  for (const stray of leaves.values()) stray.dispose();
  return { value, gradients };
}
