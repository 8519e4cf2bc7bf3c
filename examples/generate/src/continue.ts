import { createStreamDecoder, type FinishReason, type GenerateOptions, generate, type Tokenizer } from '@zebra/runtime';
import type { CausalLM } from '@zebra/tensor/nn';

/** A text under way, and what it cost. */
export interface Continuation {
  readonly promptTokens: number;
  /** Tokens that were added, an end-of-text token included. */
  readonly newTokens: number;
  readonly finish: FinishReason | 'aborted';
  /** From the start to the first new token: the pass over the prompt, and compiling its kernels. */
  readonly firstTokenSeconds: number;
  /** Tokens a second after that; undefined where there was but one. */
  readonly tokensPerSecond?: number;
}

/** The ids to start from: plain text, or a user's message in the words of the model's chat template. */
export function promptIds(tokenizer: Tokenizer, prompt: string, chat: boolean): number[] {
  if (!chat) return tokenizer.encode(prompt);
  // The template writes the special tokens, and ends with the words that open the assistant's answer.
  return tokenizer.encodeChat([{ role: 'user', content: prompt }], { addGenerationPrompt: true });
}

/**
 * Continues one prompt and hands out the text as it comes.
 *
 * `streamText()` would do that in one call. Here the tokens are taken from `generate()`, so that they can be counted.
 */
export async function continueText(
  model: CausalLM,
  tokenizer: Tokenizer,
  prompt: readonly number[],
  options: GenerateOptions & { readonly write: (text: string) => void },
): Promise<Continuation> {
  const { write, ...sampling } = options;
  const end = tokenizer.eosTokenId;
  // A token may be a part of a character: the decoder holds such pieces back until the character is whole.
  const decoder = createStreamDecoder(tokenizer, { context: prompt });
  const begun = performance.now();
  let first = begun;
  let last = begun;
  let newTokens = 0;
  let finish: Continuation['finish'] = 'length';
  try {
    const steps = generate(model, [prompt], { ...sampling, stopTokenIds: end === undefined ? [] : [end] });
    for await (const { tokens } of steps) {
      // One prompt is one row of the batch, so each step brings one token.
      const { id, finish: reason } = tokens[0]!;
      last = performance.now();
      if (++newTokens === 1) first = last;
      if (reason !== 'stop') write(decoder.push(id));
      if (reason) finish = reason;
    }
  } catch (error) {
    // However generate() ends, it frees what it held on the device.
    if (!sampling.signal?.aborted) throw error;
    finish = 'aborted';
  }
  write(decoder.end());
  return {
    promptTokens: prompt.length,
    newTokens,
    finish,
    firstTokenSeconds: (first - begun) / 1000,
    ...(newTokens > 1 && { tokensPerSecond: ((newTokens - 1) * 1000) / (last - first) }),
  };
}
