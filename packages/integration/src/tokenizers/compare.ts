import { isUtf8 } from 'node:buffer';
import { createStreamDecoder, type Tokenizer } from '@zebra/runtime';
import type { TokenizerPair } from './published.js';

/** What a comparison found: nothing where both agree. */
export type Difference = { readonly what: string; readonly ours: unknown; readonly native: unknown } | undefined;

/** The ids of a text, with and without the tokenizer's special tokens, and the text of those ids. */
export async function compareText({ tokenizer, native }: TokenizerPair, text: string): Promise<Difference> {
  for (const addSpecialTokens of [true, false]) {
    const ours = tokenizer.encode(text, { addSpecialTokens });
    const theirs = (await native.encode(text, null, { addSpecialTokens })).getIds();
    const at = firstDifference(ours, theirs);
    if (at >= 0) {
      const near = (ids: readonly number[]) => ids.slice(Math.max(0, at - 3), at + 5);
      return { what: `ids from ${at}, special tokens: ${addSpecialTokens}`, ours: near(ours), native: near(theirs) };
    }
    const found = await compareIds({ tokenizer, native }, ours);
    if (found) return found;
  }
  return undefined;
}

/** The text of some ids, with and without special tokens. */
export async function compareIds(
  { tokenizer, native }: Pick<TokenizerPair, 'tokenizer' | 'native'>,
  ids: readonly number[],
): Promise<Difference> {
  for (const skipSpecialTokens of [true, false]) {
    const ours = tokenizer.decode(ids, { skipSpecialTokens });
    const theirs = await native.decode([...ids], skipSpecialTokens);
    if (ours !== theirs) return { what: `text, special tokens skipped: ${skipSpecialTokens}`, ours, native: theirs };
  }
  return undefined;
}

/**
 * Whether ids hold byte tokens (`<0xE4>`) in a row that are no UTF-8, which no text gives. The native library makes one
 * U+FFFD of every byte of such a row, of the good ones too; ours of every sequence that is broken, so that what has
 * been streamed is not taken back.
 */
export function hasBrokenBytes(tokenizer: Tokenizer, ids: readonly number[]): boolean {
  return [ids, ids.filter((id) => !tokenizer.specialTokenIds.has(id))].some((list) => {
    const text = list.map((id) => /^<0x([0-9A-F]{2})>$/.exec(tokenizer.idToToken(id) ?? '')?.[1] ?? ' ').join('');
    return text.split(' ').some((row) => !isUtf8(Buffer.from(row, 'hex')));
  });
}

/** The text that ids give one by one, against all at once; and pieces that begin or end inside of a character. */
export function checkStream(tokenizer: Tokenizer, ids: readonly number[]): { joined: string; split: string[] } {
  const stream = createStreamDecoder(tokenizer, { skipSpecialTokens: false });
  const pieces = ids.map((id) => stream.push(id));
  pieces.push(stream.end());
  return { joined: pieces.join(''), split: pieces.filter((piece) => /\p{Surrogate}|\uFFFD/u.test(piece)) };
}

function firstDifference(a: readonly number[], b: readonly number[]): number {
  const length = Math.max(a.length, b.length);
  for (let i = 0; i < length; i++) if (a[i] !== b[i]) return i;
  return -1;
}
