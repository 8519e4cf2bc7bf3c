import { type Device, ZebraError } from '@zebra/tensor';
import type { CausalLM } from '@zebra/tensor/nn';
import { DecodeSession } from './decode-session.js';
import { type PromptBatch, padPrompts } from './left-padding.js';
import { checkSampling, type Sampler, type SamplingOptions, samplersFor } from './sampler.js';

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
  const greedy = samplers.every((sampler) => sampler.greedy);
  // The last token of a row is never run through the model.
  const session = new DecodeSession(model, batch, batch.length + maxNewTokens - 1, {
    greedy,
    recorded: options.recorded ?? true,
  });
  const steps = greedy
    ? greedySteps(session, batch, maxNewTokens, stepsAhead(model.device, options))
    : sampledSteps(session, batch, samplers, maxNewTokens);
  try {
    const active = new Set(samplers.keys());
    let step = 0;
    for await (const ids of steps) {
      signal?.throwIfAborted();
      const tokens: GeneratedToken[] = [];
      for (const row of active) {
        const id = ids[row]!;
        const finish = stops.has(id) ? 'stop' : step + 1 === maxNewTokens ? 'length' : undefined;
        tokens.push({ row, id, ...(finish && { finish }) });
        if (finish) active.delete(row);
      }
      yield { step, tokens };
      if (active.size === 0) return;
      signal?.throwIfAborted();
      step++;
    }
  } finally {
    await steps.return(undefined);
    session.dispose();
  }
}

/** Steps submitted together, and how many such blocks are under way at once. */
interface Ahead {
  readonly block: number;
  readonly blocks: number;
}

/**
 * A GPU would wait for the host at every token, by half a millisecond, and a few steps too many cost it nothing; on a
 * CPU they would cost more than the waiting.
 */
function stepsAhead(device: Device, { recorded = true }: GenerateOptions): Ahead {
  return device.info.software || !recorded ? { block: 1, blocks: 1 } : { block: 8, blocks: 2 };
}

/** The ids of each step, chosen on the device. */
async function* greedySteps(
  session: DecodeSession,
  batch: PromptBatch,
  count: number,
  { block, blocks }: Ahead,
): AsyncGenerator<Int32Array, void, undefined> {
  yield (await session.prefill(batch)).ids!;
  const underWay: Promise<Int32Array[]>[] = [];
  try {
    for (let left = count - 1; left > 0 || underWay.length > 0; ) {
      while (underWay.length < blocks && left > 0) {
        const size = Math.min(block, left);
        underWay.push(session.ahead(size));
        left -= size;
      }
      yield* await underWay[0]!;
      underWay.shift();
    }
  } finally {
    // Whoever stops early must not leave a read behind, whose failure nobody would see.
    await Promise.allSettled(underWay);
  }
}

/** The ids of each step, drawn on the host from logits that are read back. */
async function* sampledSteps(
  session: DecodeSession,
  batch: PromptBatch,
  samplers: readonly Sampler[],
  count: number,
): AsyncGenerator<Int32Array, void, undefined> {
  let { logits } = await session.prefill(batch);
  for (let step = 0; step < count; step++) {
    const columns = logits!.length / samplers.length;
    const ids = Int32Array.from(samplers, (sampler, row) =>
      sampler.sample(logits!.subarray(row * columns, (row + 1) * columns)),
    );
    yield ids;
    if (step + 1 < count) ({ logits } = await session.step(ids));
  }
}
