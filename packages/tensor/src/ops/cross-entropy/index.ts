import type { Tensor } from '../../core/tensor.js';
import {
  signedLogProbabilities,
  type TokenLogProbabilityArguments,
  type TokenLogProbabilityOptions,
} from '../token-log-probability/index.js';
import { assertReduction, IGNORE_INDEX, meanOfRows, type Reduction, vocabularyOf } from '../vocabulary/index.js';

/** Options of {@link crossEntropy}. */
export interface CrossEntropyOptions extends TokenLogProbabilityOptions {
  /** `mean` over the rows that count, or `none`: one value a row. Default `mean`. */
  readonly reduction?: Reduction;
}

/**
 * Cross-entropy of next tokens, −log softmax(hidden · headᵀ)[target], in nats, without the full logits in memory: the
 * training loss of a language model. Computed in float32 by the same kernels as `tokenLogProbabilities`, and like it
 * treats a target outside the vocabulary as ignored.
 *
 * The number of rows that count is found on the device. If there is none the mean is 0, and so are the gradients.
 *
 * @param given `hidden` [N, D] or [B, T, D] with `head` [V, D] (or `logits` [N, V] or [B, T, V]), and `targets` int32
 *   [N] or [B, T]; targets are not shifted: row t is to predict `targets[t]`
 * @returns [1], or with `reduction: 'none'` the shape of `targets` with 0 at ignored rows; float32, the caller owns it
 * @throws ZebraError `shape` or `dtype` for inputs that do not fit; `argument` for options out of range
 */
export function crossEntropy(given: TokenLogProbabilityArguments, options: CrossEntropyOptions = {}): Tensor {
  const { reduction = 'mean', ignoreIndex = IGNORE_INDEX } = options;
  assertReduction('crossEntropy', reduction);
  const losses = signedLogProbabilities('crossEntropy', given, options, -1);
  if (reduction === 'none') return losses;
  return meanOfRows(losses, given.targets, { kind: 'targets', ignoreIndex, vocabulary: vocabularyOf(given) });
}
