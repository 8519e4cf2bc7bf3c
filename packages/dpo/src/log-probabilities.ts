import { checkTokenIds, scope, sum, type Tensor, tensor, tokenLogProbabilities, ZebraError } from '@zebra/tensor';
import type { CausalLM } from '@zebra/tensor/nn';
import { encodePair, type PairLimits, type PreferencePair, padRows } from './pairs.js';

/** Rows of tokens on the device: int32 [R, T] each. */
export interface PreferenceRows {
  readonly ids: Tensor;
  readonly targets: Tensor;
  readonly positions: Tensor;
  readonly segments: Tensor;
}

/**
 * log π of each row's response: the sum of its tokens' log-probabilities, the prompt masked, the end token included.
 *
 * @returns float32 [R], differentiable
 */
export function sequenceLogProbabilities(model: CausalLM, rows: PreferenceRows): Tensor {
  return scope(() => {
    const hidden = model.forward(rows.ids, { positions: rows.positions, segments: rows.segments });
    return sum(tokenLogProbabilities({ hidden, head: model.headWeight, targets: rows.targets }), { axes: [1] });
  });
}

/** log ref of both responses of a pair, in nats. */
export interface ReferenceLogProbabilities {
  readonly chosen: number;
  readonly rejected: number;
}

/** Options of {@link scorePairs}. */
export interface ScorePairsOptions extends PairLimits {
  /** Pairs a batch. Default 8. */
  readonly batchSize?: number;
  readonly onProgress?: (done: number, total: number) => void;
}

/**
 * Log-probabilities of both responses of every pair under a frozen model: computed once, they serve as the reference
 * of the whole training run, so that no second model is needed in memory.
 *
 * @throws ZebraError `argument` without pairs; `data` for an id outside the model's vocabulary
 */
export async function scorePairs(
  model: CausalLM,
  pairs: readonly PreferencePair[],
  options: ScorePairsOptions,
): Promise<ReferenceLogProbabilities[]> {
  if (pairs.length === 0) throw new ZebraError('argument', 'scorePairs: no pairs given');
  const { batchSize = 8, onProgress } = options;
  const scores: ReferenceLogProbabilities[] = [];
  for (let first = 0; first < pairs.length; first += batchSize) {
    const encoded = pairs.slice(first, first + batchSize).map((pair) => encodePair(pair, options));
    const rows = encoded.flatMap(({ chosen, rejected }) => [chosen, rejected]);
    const length = Math.max(...rows.map((row) => row.ids.length));
    for (const row of rows) checkTokenIds(row.ids, model.vocabularySize);
    const padded = padRows(rows, length, options.endToken);
    const logs = scope(() => {
      const shape = [rows.length, length];
      return sequenceLogProbabilities(model, {
        ids: tensor(model.device, padded.ids, shape),
        targets: tensor(model.device, padded.targets, shape),
        positions: tensor(model.device, padded.positions, shape),
        segments: tensor(model.device, padded.segments, shape),
      });
    });
    const values = await logs.read();
    logs.dispose();
    for (let k = 0; k < encoded.length; k++) scores.push({ chosen: values[2 * k]!, rejected: values[2 * k + 1]! });
    onProgress?.(scores.length, pairs.length);
  }
  return scores;
}

/** Share of pairs whose chosen response has the higher value. */
export function preferenceAccuracy(scores: readonly ReferenceLogProbabilities[]): number {
  return scores.filter(({ chosen, rejected }) => chosen > rejected).length / scores.length;
}
