import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { Tokenizer } from '@huggingface/tokenizers';
import { BOS_TOKEN, EOS_TOKEN, type TokenizerJson } from './tokenizer-train.js';

/** Text to ids and back, without native code. */
export interface Encoder {
  readonly vocabularySize: number;
  readonly bos: number;
  readonly eos: number;
  /** The ids of a text, without BOS and EOS. Text that spells a special token is encoded as text. */
  encode(text: string): number[];
  /** The text of some ids; special tokens are left out. */
  decode(ids: Iterable<number>): string;
}

/** GPT-2's pre-tokenizer, as `ByteLevel` with `use_regex` has it. */
const WORDS = /'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+/gu;

/**
 * Opens a tokenizer folder (`tokenizer.json`, `tokenizer_config.json`) with `@huggingface/tokenizers`. BPE never crosses
 * a pre-token, so each distinct one is encoded by the library once and remembered: some times faster over a corpus than
 * the library alone.
 *
 * @throws Error when a file is missing or no JSON, when the pre-tokenizer is another than byte-level with GPT-2's
 *   pattern, or when a special token is missing.
 */
export function openEncoder(folder: string): Encoder {
  const json = readJson(join(folder, 'tokenizer.json')) as TokenizerJson;
  const pre = json.pre_tokenizer as { type?: string; use_regex?: boolean; add_prefix_space?: boolean } | null;
  if (pre?.type !== 'ByteLevel' || pre.use_regex === false || pre.add_prefix_space === true)
    throw new Error(
      `openEncoder: ${folder}: expected a ByteLevel pre-tokenizer with use_regex and no prefix space, got ${JSON.stringify(pre)}.`,
    );
  const tokenizer = new Tokenizer(json, readJson(join(folder, 'tokenizer_config.json')));
  const idOf = (token: string): number => {
    const id = tokenizer.token_to_id(token);
    if (id === undefined) throw new Error(`openEncoder: ${folder}: tokenizer.json has no token "${token}".`);
    return id;
  };
  // Not `tokenizer.encode`: that would read a special token's spelling as the token.
  const { model, pre_tokenizer: preTokenizer } = tokenizer;
  if (model === null || preTokenizer === null) throw new Error(`openEncoder: ${folder}: tokenizer.json has no model.`);
  const words = new Map<string, number[]>();
  const encodeWord = (word: string): number[] => {
    const known = words.get(word);
    if (known !== undefined) return known;
    const pieces: string[] = model(preTokenizer(word));
    const ids = pieces.map((piece) => idOf(piece));
    words.set(word, ids);
    return ids;
  };
  return {
    vocabularySize: Object.keys(json.model.vocab).length,
    bos: idOf(BOS_TOKEN),
    eos: idOf(EOS_TOKEN),
    encode(text) {
      const ids: number[] = [];
      for (const word of text.match(WORDS) ?? []) for (const id of encodeWord(word)) ids.push(id);
      return ids;
    },
    decode: (ids) => tokenizer.decode([...ids], { skip_special_tokens: true }),
  };
}

function readJson(path: string): object {
  try {
    return JSON.parse(readFileSync(path, 'utf8')) as object;
  } catch (cause) {
    throw new Error(`openEncoder: cannot read ${path}: ${(cause as Error).message}`, { cause });
  }
}
