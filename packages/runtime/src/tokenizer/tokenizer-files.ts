import { ZebraError } from '@zebra/tensor';
import { z } from 'zod';
import { showValue } from '../config/problems.js';
import { readFields, readObject } from '../config/schema.js';
import { assertBoundedWork } from './tokenizer-limits.js';

/** Contents of a tokenizer's files; the JSON ones as text or parsed. */
export interface TokenizerFiles {
  readonly tokenizerJson: unknown;
  /** `tokenizer_config.json`: special tokens and chat template. */
  readonly tokenizerConfigJson?: unknown;
  /** `special_tokens_map.json`, asked where `tokenizer_config.json` names none. */
  readonly specialTokensMapJson?: unknown;
  /** `chat_template.jinja`, which goes before the one in `tokenizer_config.json`. */
  readonly chatTemplate?: string;
}

/** What a tokenizer is made of, checked. */
export interface TokenizerParts {
  /** File or folder, for messages. */
  readonly origin: string;
  readonly tokenizer: object;
  readonly config: object;
  readonly vocabularySize: number;
  readonly specialTokenIds: ReadonlySet<number>;
  /** `bos_token` and such, and what they are. */
  readonly specialTokens: Readonly<Record<string, string>>;
  readonly templates: Readonly<Record<string, string>>;
}

const MOST_IDS = 2 ** 24;
const ID = `an integer from 0 to ${MOST_IDS - 1}`;
const NAMES = ['bos_token', 'eos_token', 'pad_token', 'unk_token', 'sep_token', 'cls_token', 'mask_token'] as const;

const tokenId = z
  .int(ID)
  .min(0, ID)
  .max(MOST_IDS - 1, ID);
const tokenizerSchema = z.looseObject({
  model: z
    .looseObject(
      { vocab: z.custom<object>(isVocabulary, 'tokens and their ids'), unk_id: tokenId.nullish() },
      'an object',
    )
    .refine(({ vocab, unk_id }) => !Array.isArray(vocab) || (unk_id ?? -1) < vocab.length, {
      path: ['unk_id'],
      error: 'the id of a token of the vocabulary',
    }),
  added_tokens: z
    .array(
      z.looseObject(
        { id: tokenId, content: z.string('a string'), special: z.boolean('true or false').optional() },
        'an object with id and content',
      ),
    )
    .nullish(),
});

const named = z.union([z.string(), z.looseObject({ content: z.string() })], 'a token').nullish();
const configSchema = z.looseObject({
  ...Object.fromEntries(NAMES.map((name) => [name, named])),
  chat_template: z
    .union([z.string(), z.array(z.object({ name: z.string(), template: z.string() }))], 'a template, or a list of them')
    .nullish(),
});

/** Checks a tokenizer's files and gathers what is asked of them. Throws ZebraError `format`. */
export function readTokenizerFiles(files: TokenizerFiles, origin: string): TokenizerParts {
  const tokenizer = readObject(origin, files.tokenizerJson);
  const fields = readFields(origin, tokenizerSchema, tokenizer);
  assertBoundedWork(origin, tokenizer);
  const added = fields.added_tokens ?? [];
  const config = optional('tokenizer_config.json', files.tokenizerConfigJson);
  const map = optional('special_tokens_map.json', files.specialTokensMapJson);
  const extra = z.array(z.string()).safeParse(config.additional_special_tokens);
  const special = new Set(added.filter((token) => token.special).map((token) => token.id));
  const vocabulary = fields.model.vocab as Record<string, unknown>;
  for (const token of extra.success ? extra.data : []) {
    const id = added.find((entry) => entry.content === token)?.id ?? vocabulary[token];
    if (typeof id === 'number') special.add(id);
  }
  return {
    origin,
    // The library counts on the list, and expects plain strings among the additional special tokens.
    tokenizer: { ...tokenizer, added_tokens: added },
    config: { ...config, additional_special_tokens: extra.success ? extra.data : [] },
    vocabularySize: countIds(vocabulary, added),
    specialTokenIds: special,
    specialTokens: specialTokensOf(config, map),
    templates: templatesOf(files.chatTemplate, config.chat_template),
  };
}

function optional(file: string, json: unknown): Record<string, unknown> {
  return json === undefined ? {} : readFields(file, configSchema, readObject(file, json));
}

function specialTokensOf(...sources: readonly Record<string, unknown>[]): Record<string, string> {
  const found: Record<string, string> = {};
  for (const source of sources) {
    for (const name of NAMES) {
      const value = source[name] as string | { content: string } | null | undefined;
      if (value && found[name] === undefined) found[name] = typeof value === 'string' ? value : value.content;
    }
  }
  return found;
}

function templatesOf(file: string | undefined, inConfig: unknown): Record<string, string> {
  const templates = new Map<string, string>();
  if (typeof inConfig === 'string') templates.set('default', inConfig);
  else if (Array.isArray(inConfig)) for (const { name, template } of inConfig) templates.set(name, template);
  if (file !== undefined) templates.set('default', file);
  return Object.fromEntries(templates);
}

/** A vocabulary is an object from tokens to ids, or (Unigram) a list whose index is the id. */
function isVocabulary(value: unknown): boolean {
  if (Array.isArray(value)) return value.length <= MOST_IDS && value.every(isScoredToken);
  if (typeof value !== 'object' || value === null) return false;
  for (const [token, id] of Object.entries(value)) {
    if (!Number.isInteger(id) || id < 0 || id >= MOST_IDS) {
      throw new ZebraError(
        'format',
        `tokenizer.json: model.vocab: ${showValue(token)}: expected ${ID}, got ${showValue(id)}`,
      );
    }
  }
  return true;
}

function isScoredToken(entry: unknown): boolean {
  return Array.isArray(entry) && typeof entry[0] === 'string' && Number.isFinite(entry[1]);
}

function countIds(vocabulary: Record<string, unknown>, added: readonly { readonly id: number }[]): number {
  let count = Array.isArray(vocabulary) ? vocabulary.length : 0;
  if (!Array.isArray(vocabulary)) {
    for (const id of Object.values(vocabulary)) if ((id as number) >= count) count = (id as number) + 1;
  }
  for (const { id } of added) if (id >= count) count = id + 1;
  return count;
}
