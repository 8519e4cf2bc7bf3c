export {
  type ChoiceItem,
  type ChoiceResult,
  type ChoiceScores,
  type MinimalPair,
  type MinimalPairResult,
  minimalPairs,
  scoreChoices,
} from './choices.js';
export type { ScoreOptions } from './continuations.js';
export { type Perplexity, type PerplexityOptions, type PerplexityProgress, perplexity } from './perplexity.js';
