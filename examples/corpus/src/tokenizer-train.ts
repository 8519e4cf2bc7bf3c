import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { createRequire } from 'node:module';
import { tmpdir } from 'node:os';
import { join } from 'node:path';

/** Begins every document. */
export const BOS_TOKEN = '<|begin_of_text|>';
/** Ends every document. */
export const EOS_TOKEN = '<|end_of_text|>';

/** The parts of a Hugging Face `tokenizer.json` that a byte-level BPE has. */
export interface TokenizerJson {
  version: string;
  added_tokens: object[];
  pre_tokenizer: object;
  post_processor: object;
  decoder: object;
  model: { type: string; vocab: Record<string, number>; merges: [string, string][] } & Record<string, unknown>;
  [key: string]: unknown;
}

/** The two files of a tokenizer folder. */
export interface TokenizerFiles {
  /** `tokenizer.json` */
  readonly tokenizer: TokenizerJson;
  /** `tokenizer_config.json` */
  readonly config: Record<string, unknown>;
}

const ALPHABET = 256;

/** A plain chat: `User: …`, `Assistant: …`, one turn a line. */
const CHAT_TEMPLATE =
  "{{ bos_token }}{% for message in messages %}{{ message['role'] | capitalize }}: {{ message['content'] | trim }}" +
  "{% if message['role'] == 'assistant' %}{{ eos_token }}{% endif %}{{ '\\n' }}{% endfor %}" +
  '{% if add_generation_prompt %}Assistant:{% endif %}';

/**
 * Trains a byte-level BPE (GPT-2's pre-tokenizer, no prefix space) on texts with the native `tokenizers` library and
 * keeps the first merges, so that the vocabulary has `vocabularySize` tokens: the two special ones (ids 0 and 1), the
 * 256 bytes in the order of their characters, then a token a merge. The library's Node binding always trains towards
 * 30,000 tokens, and merges come in the order they were learned, so the first k are what it would have learned with a
 * limit of k.
 *
 * @param texts the training documents, one string each.
 * @param vocabularySize number of tokens, more than 258.
 * @throws RangeError when the size is too small, or when the texts hold too few pairs to reach it.
 * @throws Error when the native library isn't installed.
 */
export function trainTokenizer(texts: Iterable<string>, vocabularySize = 1024): TokenizerFiles {
  if (!Number.isInteger(vocabularySize) || vocabularySize <= ALPHABET + 2)
    throw new RangeError(
      `trainTokenizer: vocabularySize must be a whole number above ${ALPHABET + 2}, got ${vocabularySize}.`,
    );
  const { merges, alphabet } = learnMerges(texts);
  const vocab: Record<string, number> = { [BOS_TOKEN]: 0, [EOS_TOKEN]: 1 };
  let size = 2;
  for (const character of alphabet) vocab[character] = size++;
  const kept: [string, string][] = [];
  for (const [left, right] of merges) {
    if (size >= vocabularySize) break;
    kept.push([left, right]);
    if (!(left + right in vocab)) vocab[left + right] = size++;
  }
  if (size < vocabularySize)
    throw new RangeError(
      `trainTokenizer: the texts give ${size} tokens, ${vocabularySize} were asked for; pass more text or a smaller vocabularySize.`,
    );
  return { tokenizer: tokenizerJson(vocab, kept), config: tokenizerConfig() };
}

function learnMerges(texts: Iterable<string>): { merges: [string, string][]; alphabet: string[] } {
  const { BPE, byteLevelAlphabet, byteLevelPreTokenizer, Tokenizer } = loadNative();
  const folder = mkdtempSync(join(tmpdir(), 'zebra-bpe-'));
  try {
    const input = join(folder, 'train.txt');
    const output = join(folder, 'tokenizer.json');
    writeFileSync(input, [...texts].join('\n'));
    const native = new Tokenizer(BPE.empty());
    native.setPreTokenizer(byteLevelPreTokenizer(false, true));
    native.train([input]);
    native.save(output);
    const { model } = JSON.parse(readFileSync(output, 'utf8')) as TokenizerJson;
    return { merges: model.merges, alphabet: byteLevelAlphabet().sort() };
  } finally {
    rmSync(folder, { recursive: true, force: true });
  }
}

/** The native library, loaded only when a tokenizer is trained: reading and encoding need no native code. */
function loadNative(): typeof import('tokenizers') {
  try {
    return createRequire(import.meta.url)('tokenizers') as typeof import('tokenizers');
  } catch (cause) {
    throw new Error('trainTokenizer: the package "tokenizers" is not installed or has no build for this platform.', {
      cause,
    });
  }
}

function tokenizerJson(vocab: Record<string, number>, merges: [string, string][]): TokenizerJson {
  const special = (id: number, content: string) => ({
    id,
    content,
    single_word: false,
    lstrip: false,
    rstrip: false,
    normalized: false,
    special: true,
  });
  const byteLevel = { type: 'ByteLevel', add_prefix_space: false, trim_offsets: true, use_regex: true };
  const bos = { SpecialToken: { id: BOS_TOKEN, type_id: 0 } };
  const sequence = (id: 'A' | 'B') => ({ Sequence: { id, type_id: 0 } });
  return {
    version: '1.0',
    truncation: null,
    padding: null,
    added_tokens: [special(0, BOS_TOKEN), special(1, EOS_TOKEN)],
    normalizer: null,
    pre_tokenizer: byteLevel,
    post_processor: {
      type: 'TemplateProcessing',
      single: [bos, sequence('A')],
      pair: [bos, sequence('A'), sequence('B')],
      special_tokens: { [BOS_TOKEN]: { id: BOS_TOKEN, ids: [0], tokens: [BOS_TOKEN] } },
    },
    decoder: byteLevel,
    model: {
      type: 'BPE',
      dropout: null,
      unk_token: null,
      continuing_subword_prefix: null,
      end_of_word_suffix: null,
      fuse_unk: false,
      byte_fallback: false,
      ignore_merges: false,
      vocab,
      merges,
    },
  };
}

function tokenizerConfig(): Record<string, unknown> {
  return {
    tokenizer_class: 'PreTrainedTokenizerFast',
    bos_token: BOS_TOKEN,
    eos_token: EOS_TOKEN,
    add_bos_token: true,
    add_eos_token: false,
    clean_up_tokenization_spaces: false,
    chat_template: CHAT_TEMPLATE,
  };
}
