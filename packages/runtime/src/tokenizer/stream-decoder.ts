import type { Tokenizer } from './tokenizer.js';

/** Options of {@link createStreamDecoder}. */
export interface StreamDecoderOptions {
  /** Leave special tokens out. Default true. */
  readonly skipSpecialTokens?: boolean;
  /** Ids that stand before the stream (the prompt), whose text is not given: they decide on a leading blank. */
  readonly context?: readonly number[];
}

/** Turns ids into text as they come. */
export interface StreamDecoder {
  /** The text that one more id completes; empty inside of a character. */
  push(id: number): string;
  /** What was held back, once no more ids come: U+FFFD for a character that was never finished. */
  end(): string;
}

const REPLACEMENT = '\uFFFD';

/**
 * A decoder for a stream of ids. The pieces put together are the text of `decode()` on all ids, and no piece ends inside
 * of a UTF-8 character: a token that leaves one open is held back until it is complete.
 */
export function createStreamDecoder(tokenizer: Tokenizer, options: StreamDecoderOptions = {}): StreamDecoder {
  const skipSpecialTokens = options.skipSpecialTokens ?? true;
  const decode = (ids: readonly number[]) => tokenizer.decode(ids, { skipSpecialTokens });
  // The last piece and what came since. The piece is decoded again with what follows, as a token's text may depend on
  // whether it is the first.
  let window: number[] = [...(options.context ?? [])];
  let given = window.length;
  const take = (final: boolean): string => {
    const before = decode(window.slice(0, given)).replace(/\uFFFD+$/, '');
    const text = decode(window);
    if (text.length <= before.length || (!final && text.endsWith(REPLACEMENT))) return '';
    window = window.slice(given);
    given = window.length;
    return text.slice(before.length);
  };
  return {
    push(id) {
      window.push(id);
      return take(false);
    },
    end() {
      const text = take(true);
      window = [];
      given = 0;
      return text;
    },
  };
}
