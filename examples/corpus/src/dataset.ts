import { createHash } from 'node:crypto';
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { readCachedSplit, writeCachedSplit } from './cache.js';
import { corpusVersions, loadDocuments } from './corpora.js';
import { type Document, SOURCES, type Source } from './documents.js';
import { type Encoder, openEncoder } from './encoder.js';
import { interleave } from './order.js';
import { passages } from './sentences.js';
import { type Split, type SplitDocuments, splitDocuments } from './split.js';
import { type TokenizedSplit, view } from './tokens.js';

/** Bumped whenever the split, the order or the text of a document changes, so that old caches are not read. */
const FORMAT = 1;

export interface LoadOptions<S extends Split = Split> {
  /** Folder with `tokenizer.json` and `tokenizer_config.json`. */
  readonly tokenizerFolder: string;
  readonly splits: readonly S[];
  /** Default: all three. */
  readonly sources?: readonly Source[];
  /**
   * Most tokens per split, BOS and EOS included. Only the documents needed are tokenised; the last one is cut to fit
   * and then has no EOS. Default: everything.
   */
  readonly maxTokens?: number | Partial<Record<Split, number>>;
  /** Cuts speeches and chapters at sentence ends into documents of about this many bytes. Default: left whole. */
  readonly passageBytes?: number;
  /** Of the order of documents. Default 0. */
  readonly seed?: number;
  /** Whole splits are kept here (created when missing) and read the next time. Default: no cache. */
  readonly cacheDir?: string;
  /**
   * `splitDocuments(loadDocuments(sources))` when the caller has it already; otherwise it is made here, but only when a
   * split isn't cached.
   */
  readonly documents?: SplitDocuments['documents'];
}

export interface TokenizedCorpus<S extends Split = Split> {
  readonly encoder: Encoder;
  /** The splits asked for. */
  readonly splits: Record<S, TokenizedSplit>;
}

/**
 * The corpora as tokens, in a seeded order in which every prefix is a fair sample of all sources.
 *
 * @throws Error when a corpus package or the tokenizer is missing; RangeError when the vocabulary exceeds 65,536.
 */
export function loadTokenized<S extends Split>(options: LoadOptions<S>): TokenizedCorpus<S> {
  const { tokenizerFolder, sources = SOURCES, seed = 0, passageBytes, maxTokens, cacheDir } = options;
  const encoder = openEncoder(tokenizerFolder);
  if (encoder.vocabularySize > 65536)
    throw new RangeError(`loadTokenized: ids are 16-bit, but the vocabulary has ${encoder.vocabularySize} tokens.`);
  const key = createHash('sha256')
    .update(JSON.stringify([FORMAT, corpusVersions(sources), [...sources].sort(), seed, passageBytes ?? null]))
    .update(readFileSync(join(tokenizerFolder, 'tokenizer.json')))
    .digest('hex')
    .slice(0, 16);
  const cacheFolder = cacheDir === undefined ? undefined : join(cacheDir, `corpus-${key}`);
  let parts = options.documents;
  const splits: Partial<Record<Split, TokenizedSplit>> = {};
  for (const split of options.splits) {
    const limit = typeof maxTokens === 'number' ? maxTokens : (maxTokens?.[split] ?? Number.POSITIVE_INFINITY);
    const cached = cacheFolder === undefined ? undefined : readCachedSplit(cacheFolder, split);
    if (cached !== undefined) {
      splits[split] = prefix(cached, limit, encoder);
      continue;
    }
    parts ??= splitDocuments(loadDocuments(sources)).documents;
    const whole = parts[split];
    const cut = passageBytes === undefined ? whole : whole.flatMap((document) => passages(document, passageBytes));
    const tokenized = tokenizeDocuments(interleave(cut, seed), encoder, limit);
    if (cacheFolder !== undefined && limit === Number.POSITIVE_INFINITY)
      writeCachedSplit(cacheFolder, split, tokenized);
    splits[split] = tokenized;
  }
  return { encoder, splits: splits as Record<S, TokenizedSplit> };
}

/** Tokenises documents in their order, up to `maxTokens` tokens; see {@link LoadOptions.maxTokens}. */
export function tokenizeDocuments(
  documents: Iterable<Document>,
  encoder: Encoder,
  maxTokens = Number.POSITIVE_INFINITY,
): TokenizedSplit {
  let ids = new Uint16Array(1 << 16);
  let length = 0;
  const offsets = [0];
  const sources: Source[] = [];
  const bytes: number[] = [];
  for (const document of documents) {
    // BOS and one token: nothing less can be predicted.
    if (length + 2 > maxTokens) break;
    const text = encoder.encode(document.text);
    const cut = length + text.length + 2 > maxTokens;
    const kept = cut ? text.slice(0, maxTokens - length - 1) : text;
    while (length + kept.length + 2 > ids.length) {
      const larger = new Uint16Array(ids.length * 2);
      larger.set(ids);
      ids = larger;
    }
    ids[length++] = encoder.bos;
    ids.set(kept, length);
    length += kept.length;
    if (!cut) ids[length++] = encoder.eos;
    offsets.push(length);
    sources.push(document.source);
    bytes.push(Buffer.byteLength(cut ? encoder.decode(kept) : document.text));
  }
  return view(ids.slice(0, length), Uint32Array.from(offsets), sources, Uint32Array.from(bytes));
}

/** The first `maxTokens` tokens of a split, the same as tokenising with that limit. */
function prefix(split: TokenizedSplit, maxTokens: number, encoder: Encoder): TokenizedSplit {
  if (split.ids.length <= maxTokens) return split;
  let count = 0;
  while (count < split.sources.length && split.offsets[count] + 2 <= maxTokens) count++;
  const offsets = split.offsets.slice(0, count + 1);
  const bytes = split.bytes.slice(0, count);
  const last = count - 1;
  if (count > 0 && offsets[count] > maxTokens) {
    offsets[count] = maxTokens;
    bytes[last] = Buffer.byteLength(encoder.decode(split.ids.subarray(offsets[last] + 1, maxTokens)));
  }
  return view(split.ids.slice(0, offsets[count]), offsets, split.sources.slice(0, count), bytes);
}
