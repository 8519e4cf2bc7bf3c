export {
  type PreferenceRows,
  preferenceAccuracy,
  type ReferenceLogProbabilities,
  type ScorePairsOptions,
  scorePairs,
  sequenceLogProbabilities,
} from './log-probabilities.js';
export { type PairBatchOptions, type PairSource, pairBatches } from './pair-source.js';
export { encodePair, type PaddedRows, type PairLimits, type PairRow, type PreferencePair, padRows } from './pairs.js';
export {
  type PreferenceLogProbabilities,
  type PreferenceLossOptions,
  preferenceLoss,
  preferenceMargins,
} from './preference-loss.js';
export { PUBLISHED_PREFERENCE_TUNING, type TunePreferencesOptions, tunePreferences } from './recipe.js';
