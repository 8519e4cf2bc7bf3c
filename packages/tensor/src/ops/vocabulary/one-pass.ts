import type { BackwardCall } from '../../core/define-op.js';
import type { TensorSpec } from '../../core/shape.js';
import { currentTape } from '../../core/tape.js';
import type { Tensor } from '../../core/tensor.js';
import { finishGradient, type GradientSums, gradientSumSpecs, logitsScale } from './logits-gradient.js';

/**
 * A mean loss over a vocabulary knows its gradient, but for one factor that all rows share, as soon as it knows a
 * chunk's logits. So where a gradient is wanted, the forward computes it then and there, for an upstream of 1 a row,
 * and the backward only multiplies it with upstream / rows that count. That saves making the logits a second time: one
 * product of 2·N·V·D in four for a cross-entropy, two in six for a divergence of two models.
 */

/** Which gradients a one-pass loss computes: of hidden states and head. */
export type OnePassNeeds = readonly [boolean, boolean];

/** Which gradients the open tape wants of hidden states and head; undefined where it wants none, or there is no head. */
export function onePassNeeds(x: Tensor, head: Tensor | undefined): OnePassNeeds | undefined {
  const tape = currentTape();
  if (!tape || !head) return undefined;
  const needs = [tape.tracks([x]), tape.tracks([head])] as const;
  return needs[0] || needs[1] ? needs : undefined;
}

/** Outputs of a one-pass loss: the loss [1], what the upstream is multiplied with [1], and the gradients' sums. */
export function onePassOutputs(x: TensorSpec, head: TensorSpec | undefined, needs: OnePassNeeds): TensorSpec[] {
  const { dx, dHead } = gradientSumSpecs(x, head, needs);
  const scalar: TensorSpec = { shape: [1], dtype: 'float32' };
  return [scalar, scalar, ...(dx ? [dx] : []), ...(dHead ? [dHead] : [])];
}

/** The sums among a one-pass loss's outputs. */
export function onePassSums(outputs: readonly Tensor[], needs: OnePassNeeds): GradientSums {
  const rest = outputs.slice(2);
  return { dx: needs[0] ? rest.shift() : undefined, dHead: needs[1] ? rest.shift() : undefined };
}

/**
 * The gradients of a one-pass loss, in the memory of its sums where dtypes allow it: nobody else reads those.
 *
 * @param divisor what the sums are to be divided by beside the scale of float16 gradients
 */
export function onePassGradients<A>(
  { inputs: [x, head], outputs, gradients: [g] }: BackwardCall<A>,
  needs: OnePassNeeds,
  divisor = 1,
): [Tensor | undefined, Tensor | undefined] {
  const { dx, dHead } = onePassSums(outputs, needs);
  const factor = { constant: 1 / (logitsScale(x!, head) * divisor), factors: [g!, outputs[1]!] };
  return [finishGradient(dx, x, factor), finishGradient(dHead, head, factor)];
}
