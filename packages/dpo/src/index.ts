export {
  type PreferenceRows,
  preferenceAccuracy,
  type ReferenceLogProbabilities,
  type ScorePairsOptions,
  scorePairs,
  sequenceLogProbabilities,
} from './log-probabilities.js';
export { encodePair, type PaddedRows, type PairLimits, type PairRow, padRows, type PreferencePair } from './pairs.js';
export {
  type PreferenceLogProbabilities,
  type PreferenceLossOptions,
  preferenceLoss,
  preferenceMargins,
} from './preference-loss.js';
