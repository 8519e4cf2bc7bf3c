import type { Tensor } from '../../core/tensor.js';
import {
  signedLogProbabilities,
  type TokenLogProbabilityArguments,
  type TokenLogProbabilityOptions,
} from '../token-log-probability/index.js';
import {
  assertIgnoreIndex,
  assertReduction,
  IGNORE_INDEX,
  isHalf,
  logitInputs,
  logitsGeometry,
  meanOfRows,
  onePassNeeds,
  type Reduction,
  resolveChunkRows,
  vocabularyOf,
} from '../vocabulary/index.js';
import { meanCrossEntropyOp } from './one-pass.js';

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
 * Where the gradient of hidden states or head is wanted, the mean is computed together with it (the loss's only factor
 * that is not known then, upstream / rows that count, is multiplied in by the backward), so that no logits are made
 * twice. float16 hidden states give float16 products throughout, with float32 logits and sums; a float32 head is rounded
 * for them once.
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
  const onePass = reduction === 'mean' && inOnePass(given, options);
  if (onePass) return onePass;
  const losses = signedLogProbabilities('crossEntropy', given, options, -1);
  if (reduction === 'none') return losses;
  return meanOfRows(losses, given.targets, { kind: 'targets', ignoreIndex, vocabulary: vocabularyOf(given) });
}

/** The mean where the gradient of hidden states or head is wanted: computed with its gradient, chunk by chunk. */
function inOnePass(given: TokenLogProbabilityArguments, options: CrossEntropyOptions): Tensor | undefined {
  const [x, head] = logitInputs('crossEntropy', given);
  const needs = onePassNeeds(x, head);
  if (!needs) return undefined;
  const { ignoreIndex = IGNORE_INDEX } = options;
  assertIgnoreIndex('crossEntropy', ignoreIndex);
  const { rows, columns } = logitsGeometry('crossEntropy', '', x, head);
  const sizes = { rows, columns, models: 1, half: isHalf(x, head) } as const;
  const chunkRows = resolveChunkRows('crossEntropy', x.device, sizes, options.chunkRows);
  const attributes = { ignoreIndex, chunkRows, sign: -1, needs } as const;
  const [loss, ...rest] = meanCrossEntropyOp.apply([x, head, given.targets], attributes);
  for (const other of rest) other.dispose();
  return loss!;
}
