/** How the rejected continuation of a pair differs from the true one. */
export const CORRUPTIONS = ['agreement', 'swapped-words', 'moved-word', 'other-ending'] as const;
export type Corruption = (typeof CORRUPTIONS)[number];

/** A continuation made wrong. */
export interface Corrupted {
  /** Separated by single spaces. */
  readonly words: readonly string[];
  /** What was done, as `right->wrong`. */
  readonly changes: readonly string[];
}

/** Number of verbs and of what goes with nouns: in place of the one, the other is an error of grammar. */
const AGREEMENT = new Map(
  [
    ['is', 'are'],
    ['was', 'were'],
    ['has', 'have'],
    ['does', 'do'],
    ['this', 'these'],
    ['himself', 'themselves'],
  ].flatMap(([one, many]): [string, string][] => [
    [one as string, many as string],
    [many as string, one as string],
  ]),
);
/** After these "were" goes with one and many, and "do" and "have" stand for all persons. */
const SUBJUNCTIVE = /\b(?:if|though|unless|lest|whether|wish|suppose|would|that)\b/i;
const ARTICLES = new Map([
  ['a', 'an'],
  ['an', 'a'],
]);

/** Words of four letters and more that carry grammar rather than content. */
const FUNCTION_WORDS = new Set(
  (
    'about above across after again against ahead alas almost along already also although always amid among another ' +
    'anything around away back because been before behind being below beneath beside besides between beyond both cannot ' +
    'could down during each either else even ever every everything except from further have having hence here hers ' +
    'herself himself however indeed inside instead into itself just least less like many might more moreover most much ' +
    'must myself near nearly neither never nevertheless none nothing only onto other others ought ours ourselves over ' +
    'perhaps quite rather same shall should since some something somewhat soon still such than that their theirs them ' +
    'themselves then thence there therefore these they this those thou though three through thus till together toward ' +
    'towards under unless until unto upon very were what whatever when whence where whereas wherever whether which while ' +
    'whole whom whose will with within without would your yours yourself does doing done'
  ).split(' '),
);
const MIN_CONTENT_LETTERS = 4;

/** The letters of a word, without the punctuation around them. */
function lettersOf(word: string): string {
  return /[A-Za-z]+/.exec(word)?.[0] ?? '';
}

function pick<T>(items: readonly T[], random: () => number): T | undefined {
  return items[Math.floor(random() * items.length)];
}

/** One verb, pronoun or article that does not agree any more. */
export function breakAgreement(
  words: readonly string[],
  sentence: string,
  random: () => number,
): Corrupted | undefined {
  const loose = SUBJUNCTIVE.test(sentence);
  const found: { index: number; right: string; wrong: string }[] = [];
  words.forEach((word, index) => {
    const right = lettersOf(word);
    // "A" of an enumeration is none, and nothing follows that the article could go with.
    if (ARTICLES.has(right) && word === right && index + 1 < words.length) {
      found.push({ index, right, wrong: ARTICLES.get(right) as string });
    }
    // "isn't" would become "aren't" by its first letters, which is as wrong.
    if (AGREEMENT.has(right) && !(loose && /^(?:were|was|have|do)$/.test(right))) {
      found.push({ index, right, wrong: AGREEMENT.get(right) as string });
    }
  });
  const change = pick(found, random);
  if (change === undefined) return undefined;
  const { index, right, wrong } = change;
  return {
    words: words.map((word, i) => (i === index ? word.replace(right, wrong) : word)),
    changes: [`${right}->${wrong}`],
  };
}

/** Two content words that have changed places; punctuation stays where it was. */
export function swapWords(words: readonly string[], random: () => number): Corrupted | undefined {
  const content = words.flatMap((word, index) => {
    const letters = lettersOf(word);
    const plain = letters.length >= MIN_CONTENT_LETTERS && letters === letters.toLowerCase();
    return plain && !FUNCTION_WORDS.has(letters) ? [{ index, letters }] : [];
  });
  const first = pick(content, random);
  const others = content.filter(
    (other) => first !== undefined && other.letters !== first.letters && !joined(words, first.index, other.index),
  );
  const second = pick(others, random);
  if (first === undefined || second === undefined) return undefined;
  const result = [...words];
  result[first.index] = (words[first.index] as string).replace(first.letters, second.letters);
  result[second.index] = (words[second.index] as string).replace(second.letters, first.letters);
  const [a, b] = first.index < second.index ? [first, second] : [second, first];
  return { words: result, changes: [`${a.letters}->${b.letters}`, `${b.letters}->${a.letters}`] };
}

/** Whether only "and" or "or" stands between two words, which then may stand either way round. */
function joined(words: readonly string[], a: number, b: number): boolean {
  return Math.abs(a - b) === 2 && /^(?:and|or|nor)$/.test(words[(a + b) / 2] as string);
}

/** A word without punctuation or capitals that has moved two to five words on. */
export function moveWord(words: readonly string[], random: () => number): Corrupted | undefined {
  // An adverb may stand in many places.
  const plain = (word: string | undefined) => word !== undefined && /^[a-z]+$/.test(word) && !word.endsWith('ly');
  const moves: { from: number; to: number }[] = [];
  for (let from = 0; from < words.length; from++) {
    if (!plain(words[from])) continue;
    for (let to = from + 2; to <= from + 5 && to < words.length; to++) {
      // Behind a word with punctuation it would stand in another clause.
      if (!plain(words[to]) || words[to] === words[from]) continue;
      moves.push({ from, to });
    }
  }
  const move = pick(moves, random);
  if (move === undefined) return undefined;
  const { from, to } = move;
  const moved = words[from] as string;
  const result = [...words.slice(0, from), ...words.slice(from + 1, to + 1), moved, ...words.slice(to + 1)];
  if (result.join(' ') === words.join(' ')) return undefined;
  const stretch = (list: readonly string[]) => list.slice(from, to + 1).join(' ');
  return { words: result, changes: [`${stretch(words)}->${stretch(result)}`] };
}
