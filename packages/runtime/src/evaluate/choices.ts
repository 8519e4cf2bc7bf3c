import { ZebraError } from '@zebra/tensor';
import type { CausalLM } from '@zebra/tensor/nn';
import type { Tokenizer } from '../tokenizer/index.js';
import { type Continuation, type ScoreOptions, scoreContinuations } from './continuations.js';

/** A question with answers to choose from. */
export interface ChoiceItem {
  /** What stands before every choice. */
  readonly context: string;
  /** Each with the blank that parts it from the context, as a rule. */
  readonly choices: readonly string[];
  /** Index of the right choice, where it is known. */
  readonly answer?: number;
}

/** What a model makes of one item. */
export interface ChoiceScores {
  /** Σ log p of each choice given the context, in nats. */
  readonly sums: readonly number[];
  /** The same, divided by the choice's UTF-8 bytes. */
  readonly perByte: readonly number[];
  /** Index of the largest sum, and of the largest per byte; the first on a tie. */
  readonly bestBySum: number;
  readonly bestPerByte: number;
}

/** What {@link scoreChoices} gives. */
export interface ChoiceResult {
  readonly items: readonly ChoiceScores[];
  /** Share of right answers among the items that have one, by sum; NaN where none has. */
  readonly accuracy: number;
  /** The same per byte, which does not favour short choices. */
  readonly accuracyPerByte: number;
}

/** A sentence as people write it, and one that differs from it as little as possible and is wrong. */
export interface MinimalPair {
  readonly good: string;
  readonly bad: string;
}

/** What {@link minimalPairs} gives. */
export interface MinimalPairResult {
  /** Share of pairs whose good sentence is the more probable one; a tie is wrong. */
  readonly accuracy: number;
  /** log p(good) − log p(bad) of each pair, in nats. */
  readonly margins: readonly number[];
}

/**
 * Answers multiple-choice questions by log-likelihood. Context and choice are encoded together, and the choice is what
 * goes beyond the context's own tokens; blanks at the end of a context count to its choices.
 *
 * @throws ZebraError `data` for an item without choices, an empty choice or an impossible answer; `argument` for
 *   impossible options
 */
export async function scoreChoices(
  model: CausalLM,
  tokenizer: Tokenizer,
  items: readonly ChoiceItem[],
  options: ScoreOptions = {},
): Promise<ChoiceResult> {
  const continuations = items.flatMap((item, index) => {
    checkItem(item, index);
    return item.choices.map((choice) => encodePair('scoreChoices', tokenizer, item.context, choice));
  });
  const sums = await scoreContinuations('scoreChoices', model, continuations, options);
  let at = 0;
  const scored = items.map(({ choices }): ChoiceScores => {
    const mine = [...sums.subarray(at, at + choices.length)];
    at += choices.length;
    const perByte = mine.map((sum, i) => sum / utf8Length(choices[i]!));
    return { sums: mine, perByte, bestBySum: largest(mine), bestPerByte: largest(perByte) };
  });
  const known = items.flatMap(({ answer }, i) => (answer === undefined ? [] : [{ answer, scores: scored[i]! }]));
  const share = (right: (entry: (typeof known)[number]) => boolean) => known.filter(right).length / known.length;
  return {
    items: scored,
    accuracy: share(({ answer, scores }) => scores.bestBySum === answer),
    accuracyPerByte: share(({ answer, scores }) => scores.bestPerByte === answer),
  };
}

/**
 * How often a model finds the good sentence of a pair more probable (BLiMP, Warstadt et al. 2020), by the sum of the
 * log-probabilities of all its tokens.
 *
 * @throws ZebraError `data` without pairs or for a sentence without tokens; `argument` for impossible options
 */
export async function minimalPairs(
  model: CausalLM,
  tokenizer: Tokenizer,
  pairs: readonly MinimalPair[],
  options: ScoreOptions = {},
): Promise<MinimalPairResult> {
  if (pairs.length === 0) throw new ZebraError('data', 'minimalPairs: no pairs were given');
  const whole = pairs
    .flatMap(({ good, bad }) => [good, bad])
    .map((sentence) => encodePair('minimalPairs', tokenizer, '', sentence));
  const sums = await scoreContinuations('minimalPairs', model, whole, options);
  const margins = pairs.map((_, i) => sums[2 * i]! - sums[2 * i + 1]!);
  return { accuracy: margins.filter((margin) => margin > 0).length / pairs.length, margins };
}

function checkItem({ choices, answer }: ChoiceItem, index: number): void {
  if (choices.length === 0 || choices.includes('')) {
    throw new ZebraError('data', `scoreChoices: item ${index} must have choices, none of them empty`);
  }
  if (answer !== undefined && !(Number.isInteger(answer) && answer >= 0 && answer < choices.length)) {
    throw new ZebraError(
      'data',
      `scoreChoices: item ${index} has ${choices.length} choices, but its answer is ${answer}`,
    );
  }
}

function encodePair(operation: string, tokenizer: Tokenizer, context: string, choice: string): Continuation {
  const trimmed = context.trimEnd();
  const moved = context.slice(trimmed.length) + choice;
  const plain = (text: string) => tokenizer.encode(text, { addSpecialTokens: false });
  const start = startOf(tokenizer);
  const whole = plain(trimmed + moved);
  if (whole.length === 0) throw new ZebraError('data', `${operation}: ${JSON.stringify(choice)} has no tokens`);
  // A token that goes over the border counts to the choice.
  const before = Math.min(trimmed === '' ? 0 : plain(trimmed).length, whole.length - 1);
  const ids = [...start, ...whole];
  return { ids, from: Math.max(1, start.length + before) };
}

/** What stands before all: BOS, or where a tokenizer has none (Qwen) the end of the text before. */
function startOf(tokenizer: Tokenizer): number[] {
  const id = tokenizer.bosTokenId ?? tokenizer.eosTokenId;
  return id === undefined ? [] : [id];
}

function utf8Length(text: string): number {
  return new TextEncoder().encode(text).length;
}

function largest(values: readonly number[]): number {
  let best = 0;
  for (let i = 1; i < values.length; i++) if (values[i]! > values[best]!) best = i;
  return best;
}
