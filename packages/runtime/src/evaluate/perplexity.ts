import { checkTokenIds, ZebraError } from '@zebra/tensor';
import type { CausalLM } from '@zebra/tensor/nn';
import { evaluationBatches, type TokenDocument } from '@zebra/tensor/train';
import { scoreBatch } from './token-scores.js';

/** Options of {@link perplexity}. */
export interface PerplexityOptions {
  /** Rows of a batch. Default 8. */
  readonly batchSize?: number;
  /** Tokens of a row: the most context that a prediction has. Default 1024. */
  readonly length?: number;
  /** Ends the evaluation with the signal's reason as an error. */
  readonly signal?: AbortSignal;
  /** Called after every batch. */
  readonly onProgress?: (progress: PerplexityProgress) => void;
}

/** How far an evaluation is. */
export interface PerplexityProgress {
  /** Batches done, and in all. */
  readonly done: number;
  readonly total: number;
  /** Mean so far, nats a predicted token. */
  readonly nats: number;
}

/** What {@link perplexity} gives. */
export interface Perplexity {
  /** Mean of −log p, nats a predicted token. */
  readonly nats: number;
  /** exp(nats). */
  readonly perplexity: number;
  /** Predicted tokens: all but the first of each document. */
  readonly tokens: number;
}

/**
 * How well a model predicts documents. Documents are packed into rows; every token but the first of its document is
 * predicted once, from what stands before it in its row and its document. Memory does not grow with the corpus, and
 * logits are never held whole.
 *
 * @param documents token ids; put a BOS in front of each for a model that was trained with one
 * @throws ZebraError `data` for an empty corpus or document, an id outside the vocabulary, or a loss that is not finite;
 *   `argument` for impossible options
 */
export async function perplexity(
  model: CausalLM,
  documents: readonly TokenDocument[],
  options: PerplexityOptions = {},
): Promise<Perplexity> {
  const { batchSize = 8, length = 1024, signal, onProgress } = options;
  const batches = evaluationBatches(documents, { batchSize, length });
  for (const document of documents) checkTokenIds(document, model.vocabularySize);
  let sum = 0;
  let tokens = 0;
  let done = 0;
  for (const batch of batches) {
    signal?.throwIfAborted();
    const scores = await scoreBatch(model, batch, [batchSize, length]);
    for (let i = 0; i < scores.length; i++) {
      if (batch.targets[i]! < 0) continue;
      sum -= scores[i]!;
      tokens++;
    }
    done++;
    if (!Number.isFinite(sum)) {
      throw new ZebraError('data', `perplexity: the loss of batch ${done} is ${sum}. Check the weights of the model.`);
    }
    onProgress?.({ done, total: batches.count, nats: sum / tokens });
  }
  const nats = sum / tokens;
  return { nats, perplexity: Math.exp(nats), tokens };
}
