import type { PairLimits, PreferencePair, ReferenceLogProbabilities } from '@zebra/dpo';
import { preferenceAccuracy } from '@zebra/dpo';
import { buildPreferences, type Encoder } from 'zebra-example-corpus';
import type { DemoData } from './data.js';

/** Preference pairs as token ids. */
export interface DemoPairs {
  readonly train: readonly PreferencePair[];
  readonly evaluation: readonly PreferencePair[];
  readonly limits: PairLimits;
}

/** Options of {@link loadPairs}. */
export interface LoadPairsOptions {
  /** Most pairs of each part. */
  readonly train: number;
  readonly evaluation: number;
  /** Most tokens of a row: pairs with a longer one are left out. */
  readonly length: number;
  readonly seed: number;
}

/**
 * Sentences of the test split: their beginning as prompt, their true end as chosen, and as rejected response one with an
 * error of agreement or with words out of place, or the end of another sentence. No sentence is in both parts.
 */
export function loadPairs({ encoder, documents }: DemoData, options: LoadPairsOptions): DemoPairs {
  const built = buildPreferences(documents.test, { seed: options.seed });
  const limits = { beginToken: encoder.bos, endToken: encoder.eos };
  const part = (texts: typeof built.train, most: number): PreferencePair[] => {
    const kept: PreferencePair[] = [];
    for (const text of texts) {
      if (kept.length === most) break;
      const pair = encode(encoder, text);
      // BOS comes in front; the end token is predicted, not read.
      const longest = 1 + pair.prompt.length + Math.max(pair.chosen.length, pair.rejected.length);
      if (longest <= options.length) kept.push(pair);
    }
    return kept;
  };
  return { train: part(built.train, options.train), evaluation: part(built.evaluation, options.evaluation), limits };
}

function encode(encoder: Encoder, texts: { prompt: string; chosen: string; rejected: string }): PreferencePair {
  const { prompt, chosen, rejected } = texts;
  return { prompt: encoder.encode(prompt), chosen: encoder.encode(chosen), rejected: encoder.encode(rejected) };
}

/** How well a model tells chosen from rejected responses. */
export interface PreferenceQuality {
  /** Share of pairs whose chosen response is the more probable one. */
  readonly accuracy: number;
  /** The same by log-probability per token, since the longer response is the less probable one. */
  readonly accuracyPerToken: number;
  /** Mean of log π(chosen) − log π(rejected), in nats. */
  readonly margin: number;
}

/** Quality from the log-probabilities of evaluation pairs. */
export function preferenceQuality(
  pairs: readonly PreferencePair[],
  scores: readonly ReferenceLogProbabilities[],
): PreferenceQuality {
  const perToken = scores.map(({ chosen, rejected }, i) => ({
    // The end token counts.
    chosen: chosen / (pairs[i]!.chosen.length + 1),
    rejected: rejected / (pairs[i]!.rejected.length + 1),
  }));
  const margin = scores.reduce((sum, { chosen, rejected }) => sum + chosen - rejected, 0) / scores.length;
  return { accuracy: preferenceAccuracy(scores), accuracyPerToken: preferenceAccuracy(perToken), margin };
}
