export { type SplitMeta, splitMeta, writeSplit } from './cache.js';
export { corpusVersions, loadDocuments, normaliseText } from './corpora.js';
export { CORRUPTIONS, type Corruption } from './corruptions.js';
export { type LoadOptions, loadTokenized, type TokenizedCorpus, tokenizeDocuments } from './dataset.js';
export { type Document, SOURCES, type Source } from './documents.js';
export { type Encoder, openEncoder } from './encoder.js';
export {
  type Discounts,
  kneserNeyFromCounts,
  type NgramModel,
  type NgramOptions,
  trainKneserNey,
} from './kneser-ney.js';
export { countNgrams, type RawCounts } from './ngram-counts.js';
export { interleave } from './order.js';
export { buildPreferences, type PreferenceOptions, type PreferencePair, type PreferencePairs } from './preferences.js';
export { passages, type Segment, segments, sentenceKey } from './sentences.js';
export { SPLITS, type Split, type SplitDocuments, type SplitReport, splitDocuments } from './split.js';
export { BOS_TOKEN, EOS_TOKEN, type TokenizerFiles, type TokenizerJson, trainTokenizer } from './tokenizer-train.js';
export type { TokenizedSplit } from './tokens.js';
