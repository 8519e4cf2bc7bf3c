import { ZebraError } from '../errors.js';
import { fill } from './create.js';
import { isFloat } from './dtype.js';
import { enterScope, keep, scope } from './scope.js';
import { showShape } from './shape.js';
import { Tape, withTape } from './tape.js';
import type { Tensor } from './tensor.js';

/** Tensors to differentiate with respect to: a list, or by name. */
export type Differentiated = readonly Tensor[] | ReadonlyMap<string, Tensor>;

/**
 * Gradients of tensors, each of its tensor's shape and dtype. Of a list: in its order, undefined where the loss does not
 * depend on a tensor. Of a map: by name, those that there are.
 */
export type GradientsOf<P extends Differentiated> = P extends readonly Tensor[]
  ? readonly (Tensor | undefined)[]
  : ReadonlyMap<string, Tensor>;

/** What {@link valueAndGradients} gives. It belongs to the surrounding scope, or to the caller where there is none. */
export interface ValueAndGradients<T, P extends Differentiated = readonly Tensor[]> {
  /** What the function returned. */
  readonly value: T;
  readonly gradients: GradientsOf<P>;
}

/** Options of {@link valueAndGradients}. */
export interface GradientOptions {
  /**
   * Gradient of the loss itself, one element of the loss's dtype: 1 by default; a loss scale for mixed precision, as a
   * tensor so that it stays data.
   */
  readonly seed?: Tensor;
}

/**
 * Runs `f` and differentiates the scalar it returns (or the `loss` of the object it returns) with respect to tensors.
 *
 * Everything made on the way is freed; the value (with whatever else the object holds) and the gradients are not.
 *
 * @throws ZebraError `shape` when the loss is not one element; `dtype` when it or a tensor asked for is an integer.
 */
export function valueAndGradients<
  T extends Tensor | { readonly loss: Tensor },
  const P extends Differentiated = readonly Tensor[],
>(f: () => T, tensors: P, options: GradientOptions = {}): ValueAndGradients<T, P> {
  const list = [...tensors.values()] as Tensor[];
  for (const tensor of list) {
    if (!isFloat(tensor.dtype))
      throw new ZebraError('dtype', `valueAndGradients: a ${tensor.dtype} tensor has no gradient`);
  }
  const { value, leaves } = scope(() => differentiate(f, list, options));
  const gradients = list.map((tensor) => leaves.get(tensor.id));
  for (const [id, leaf] of leaves) if (!list.some((tensor) => tensor.id === id)) leaf.dispose();
  if (Array.isArray(tensors)) return { value, gradients: gradients as unknown as GradientsOf<P> };
  const named = [...(tensors as ReadonlyMap<string, Tensor>).keys()].flatMap((name, i): [string, Tensor][] => {
    const gradient = gradients[i];
    return gradient ? [[name, gradient]] : [];
  });
  return { value, gradients: new Map(named) as unknown as GradientsOf<P> };
}

function differentiate<T extends Tensor | { readonly loss: Tensor }>(
  f: () => T,
  tensors: readonly Tensor[],
  options: GradientOptions,
): { readonly value: T; readonly leaves: Map<number, Tensor> } {
  const tape = new Tape(tensors.map((tensor) => tensor.id));
  try {
    const value = withTape(tape, () => scope(f));
    const loss = 'loss' in value ? value.loss : (value as Tensor);
    if (loss.size !== 1) {
      throw new ZebraError(
        'shape',
        `valueAndGradients: the loss must be one element, got shape ${showShape(loss.shape)}. Reduce it with sum() or mean().`,
      );
    }
    const leaves = withTape(undefined, () => {
      const seed = options.seed ? seedOf(loss, options.seed) : fill(loss.device, loss.shape, 1, { dtype: loss.dtype });
      return tape.backward(new Map([[loss.id, keep(seed)]]));
    });
    for (const leaf of leaves.values()) enterScope(leaf);
    return { value, leaves };
  } catch (error) {
    tape.discard();
    throw error;
  }
}

/** The seed seen in the shape of the loss. */
function seedOf(loss: Tensor, seed: Tensor): Tensor {
  if (seed.size !== 1) {
    throw new ZebraError('shape', `valueAndGradients: options.seed must be one element, got ${showShape(seed.shape)}`);
  }
  if (seed.dtype !== loss.dtype) {
    throw new ZebraError('dtype', `valueAndGradients: options.seed is ${seed.dtype}, the loss ${loss.dtype}`);
  }
  return seed.view(loss);
}
