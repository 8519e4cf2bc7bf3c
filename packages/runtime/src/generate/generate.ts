import { ZebraError } from '@zebra/tensor';
import type { CausalLM } from '@zebra/tensor/nn';
import { DecodeSession, type Outcome } from './decode-session.js';
import { padPrompts } from './left-padding.js';
import { checkSampling, type SamplingOptions, samplersFor } from './sampler.js';

/** Options of {@link generate}. */
export interface GenerateOptions extends SamplingOptions {
  /** Most tokens that are added to each prompt. Default 128. */
  readonly maxNewTokens?: number;
  /** A row ends with any of these ids. Default: none. */
  readonly stopTokenIds?: readonly number[];
  /** Ends the generation with the signal's reason as an error. */
  readonly signal?: AbortSignal;
  /**
   * Record the decoding step once and replay it. Turn it off for a model of your own whose forward pass writes host
   * data or depends on the length of the cache. Default true.
   */
  readonly recorded?: boolean;
}

/** Why a row ended: a stop token, or the number of tokens. */
export type FinishReason = 'stop' | 'length';

/** One token that a row got. */
export interface GeneratedToken {
  /** Index of the prompt. */
  readonly row: number;
  readonly id: number;
  /** Set on the last token of a row. A stop token is given, too. */
  readonly finish?: FinishReason;
}

/** One step: a token for every row that goes on. */
export interface GenerateStep {
  /** From 0. */
  readonly step: number;
  readonly tokens: readonly GeneratedToken[];
}

/**
 * Continues prompts, all of them at once: one pass over the prompts (the shorter ones padded on the left), then a
 * recorded step a token. Rows that are done are computed further until the last one is, but not reported.
 *
 * Everything on the device is freed when the generator ends, also by `break`, an error or an abort.
 *
 * @param prompts token ids, one list a row
 * @returns an iterator over the steps
 * @throws ZebraError `argument` for impossible options, `data` for an empty prompt, an id outside the vocabulary, or
 *   logits that are not finite
 */
export async function* generate(
  model: CausalLM,
  prompts: readonly ArrayLike<number>[],
  options: GenerateOptions = {},
): AsyncGenerator<GenerateStep, void, undefined> {
  const { maxNewTokens = 128, signal } = options;
  if (!Number.isSafeInteger(maxNewTokens) || maxNewTokens < 1) {
    throw new ZebraError('argument', `generate: maxNewTokens must be a positive integer, got ${maxNewTokens}`);
  }
  checkSampling('generate', options);
  const stops = new Set(options.stopTokenIds);
  const batch = padPrompts('generate', prompts, model.vocabularySize);
  const samplers = samplersFor(batch.rows, options);
  signal?.throwIfAborted();
  // The last token of a row is never run through the model.
  const session = new DecodeSession(model, batch, batch.length + maxNewTokens - 1, {
    greedy: samplers.every((sampler) => sampler.greedy),
    recorded: options.recorded ?? true,
  });
  try {
    const ids = new Int32Array(batch.rows);
    const active = new Set(ids.keys());
    let outcome = await session.prefill(batch);
    for (let step = 0; ; step++) {
      signal?.throwIfAborted();
      const tokens: GeneratedToken[] = [];
      for (const row of active) {
        const id = outcome.ids?.[row] ?? samplers[row]!.sample(rowOf(outcome, row, model.vocabularySize));
        ids[row] = id;
        const finish = stops.has(id) ? 'stop' : step + 1 === maxNewTokens ? 'length' : undefined;
        tokens.push({ row, id, ...(finish && { finish }) });
        if (finish) active.delete(row);
      }
      yield { step, tokens };
      if (active.size === 0) return;
      signal?.throwIfAborted();
      outcome = await session.step(ids);
    }
  } finally {
    session.dispose();
  }
}

function rowOf({ logits }: Outcome, row: number, columns: number): Float32Array {
  return logits!.subarray(row * columns, (row + 1) * columns);
}
