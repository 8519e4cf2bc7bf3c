import { generate, generateText, type Tokenizer } from '@zebra/runtime';
import type { CausalLM } from '@zebra/tensor/nn';

/** How the samples are drawn: warm enough not to loop, cool enough to make sense. */
export const SAMPLING = { temperature: 0.8, topK: 40, topP: 0.95 } as const;

/** Options of {@link sampleText}. */
export interface SampleOptions {
  readonly prompt: string;
  readonly tokens: number;
  readonly seed: number;
}

/** Continues a prompt; the text begins with the prompt. */
export async function sampleText(model: CausalLM, tokenizer: Tokenizer, options: SampleOptions): Promise<string> {
  const { prompt, tokens, seed } = options;
  const [made] = await generateText(model, tokenizer, [prompt], { ...SAMPLING, maxNewTokens: tokens, seed });
  return prompt + made!.text;
}

/** What {@link decodeRate} measures. */
export interface DecodeRate {
  /** Tokens a second of one row, greedy, from recorded steps. */
  readonly tokensPerSecond: number;
  /** Tokens in the cache when the measurement ends. */
  readonly context: number;
  readonly tokens: number;
}

/**
 * Decoding speed after a prompt. The first tokens are not counted: they compile and record.
 *
 * @param prompt ids that are in the cache before the first decoded token
 */
export async function decodeRate(
  model: CausalLM,
  prompt: readonly number[],
  { tokens, warmUp = 4 }: { readonly tokens: number; readonly warmUp?: number },
): Promise<DecodeRate> {
  let begun = 0;
  for await (const { step } of generate(model, [prompt], { maxNewTokens: tokens + warmUp })) {
    if (step === warmUp - 1) begun = performance.now();
  }
  const seconds = (performance.now() - begun) / 1000;
  return { tokensPerSecond: tokens / seconds, context: prompt.length + tokens + warmUp, tokens };
}
