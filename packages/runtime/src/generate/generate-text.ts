import type { CausalLM } from '@zebra/tensor/nn';
import { createStreamDecoder, type Tokenizer } from '../tokenizer/index.js';
import { type FinishReason, type GenerateOptions, generate } from './generate.js';

/** Options of {@link generateText} and {@link streamText}. */
export interface GenerateTextOptions extends GenerateOptions {
  /** Default: the tokenizer's end-of-text token. */
  readonly stopTokenIds?: readonly number[];
  /** Put the tokenizer's special tokens (a BOS) in front of prompts that are text. Default true. */
  readonly addSpecialTokens?: boolean;
}

/** A piece of a row's text, whole characters only. */
export interface TextPiece {
  /** Index of the prompt. */
  readonly row: number;
  readonly text: string;
  /** Set on the last piece of a row. */
  readonly finish?: FinishReason;
}

/** What a prompt was continued with. */
export interface GeneratedText {
  /** Without the prompt and without special tokens. */
  readonly text: string;
  /** All new ids, a stop token included. */
  readonly ids: readonly number[];
  readonly finish: FinishReason;
}

interface Piece extends TextPiece {
  readonly id: number;
}

/**
 * Continues prompts and gives the text of each row as it comes.
 *
 * @param prompts text, or ids (of `tokenizer.encodeChat`, as a rule)
 * @throws as {@link generate}
 */
export async function* streamText(
  model: CausalLM,
  tokenizer: Tokenizer,
  prompts: readonly (string | readonly number[])[],
  options: GenerateTextOptions = {},
): AsyncGenerator<TextPiece, void, undefined> {
  for await (const { row, text, finish } of pieces(model, tokenizer, prompts, options)) {
    if (text !== '' || finish) yield { row, text, ...(finish && { finish }) };
  }
}

/**
 * Continues prompts, and gives their texts when all are done.
 *
 * @param prompts text, or ids (of `tokenizer.encodeChat`, as a rule)
 * @throws as {@link generate}
 */
export async function generateText(
  model: CausalLM,
  tokenizer: Tokenizer,
  prompts: readonly (string | readonly number[])[],
  options: GenerateTextOptions = {},
): Promise<GeneratedText[]> {
  const rows = prompts.map(() => ({ text: '', ids: [] as number[], finish: 'length' as FinishReason }));
  for await (const { row, text, id, finish } of pieces(model, tokenizer, prompts, options)) {
    const result = rows[row]!;
    result.text += text;
    result.ids.push(id);
    if (finish) result.finish = finish;
  }
  return rows;
}

async function* pieces(
  model: CausalLM,
  tokenizer: Tokenizer,
  prompts: readonly (string | readonly number[])[],
  options: GenerateTextOptions,
): AsyncGenerator<Piece, void, undefined> {
  const { addSpecialTokens = true } = options;
  const encoded = prompts.map((prompt) =>
    typeof prompt === 'string' ? tokenizer.encode(prompt, { addSpecialTokens }) : prompt,
  );
  const end = tokenizer.eosTokenId;
  const stopTokenIds = options.stopTokenIds ?? (end === undefined ? [] : [end]);
  const streams = encoded.map((context) => createStreamDecoder(tokenizer, { context }));
  for await (const { tokens } of generate(model, encoded, { ...options, stopTokenIds })) {
    for (const { row, id, finish } of tokens) {
      const stream = streams[row]!;
      // A stop token ends the text and is no part of it, special or not.
      const text = (finish === 'stop' ? '' : stream.push(id)) + (finish ? stream.end() : '');
      yield { row, id, text, ...(finish && { finish }) };
    }
  }
}
