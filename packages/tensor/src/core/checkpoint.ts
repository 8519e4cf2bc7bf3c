import { keep, scope } from './scope.js';
import { currentTape, Tape, withTape } from './tape.js';
import type { Tensor } from './tensor.js';

/**
 * Activation checkpointing: runs `f(inputs)` keeping only its inputs and output, and runs it a second time when the
 * gradient is wanted. Gradients reach the inputs and every tracked tensor that `f` captures (its weights).
 *
 * `f` must compute the same both times and return one tensor.
 */
export function checkpoint(inputs: readonly Tensor[], f: (...inputs: Tensor[]) => Tensor): Tensor {
  const tape = currentTape();
  const output = withTape(undefined, () => scope(() => f(...inputs)));
  if (!tape) return output;
  const tracked = new Set(tape.tracked);
  const held = inputs.map((input) => keep(input.alias()));
  tape.record({
    name: 'checkpoint',
    inputs: held,
    outputs: [keep(output.alias())],
    backward([gradient], needs, extra) {
      if (!gradient) return [];
      const inner = new Tape(tracked);
      const again = withTape(inner, () => scope(() => f(...held)));
      const leaves = inner.backward(new Map([[again.id, keep(gradient.alias())]]));
      const incoming = held.map((input, index) => {
        const mine = needs[index] ? leaves.get(input.id) : undefined;
        if (mine) leaves.delete(input.id);
        return mine;
      });
      for (const [id, leaf] of leaves) extra(id, leaf);
      return incoming;
    },
  });
  return output;
}
