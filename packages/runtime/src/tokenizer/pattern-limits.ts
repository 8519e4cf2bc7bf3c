/** Quantifiers without an upper bound that one alternative may have; the published tokenizers have two. */
const MOST_UNBOUNDED = 3;
const MOST_REPEATS = 1000;
const MOST_CHARACTERS = 10_000;
const MOST_DEPTH = 50;

/** What a part of a pattern may cost. */
interface Part {
  /** It may match in more than one way or length, so that repeating it multiplies the ways. */
  readonly ambiguous: boolean;
  /** Most quantifiers without an upper bound on one way through it. */
  readonly unbounded: number;
}

const SIMPLE: Part = { ambiguous: false, unbounded: 0 };

/**
 * Why a regular expression out of a file may take forever on some text, or undefined if it may not. JavaScript's engine
 * goes back and tries again, so that `(a+)+$` takes twice as long with every character more, and it cannot be
 * interrupted. Refused is therefore what can take exponential time: a repeated group that itself repeats something or
 * chooses. What is left takes at most the fourth power of a run's length. The patterns that published tokenizers split
 * by repeat single characters and classes alone.
 */
export function endlessPattern(pattern: string): string | undefined {
  if (pattern.length > MOST_CHARACTERS) return `it has more than ${MOST_CHARACTERS} characters`;
  try {
    const reader = new PatternReader(pattern);
    if (reader.alternatives(0).unbounded > MOST_UNBOUNDED) {
      return `one of its alternatives has more than ${MOST_UNBOUNDED} quantifiers without an upper bound`;
    }
    return undefined;
  } catch (error) {
    if (error instanceof Endless) return error.message;
    throw error;
  }
}

class Endless extends Error {}

/** Reads as much of the syntax (Oniguruma's, which is much like JavaScript's) as the rules above need. */
class PatternReader {
  private readonly text: string;
  private at = 0;

  constructor(text: string) {
    this.text = text;
  }

  /** Up to a closing parenthesis, or to the end. */
  alternatives(depth: number): Part {
    if (depth > MOST_DEPTH) throw new Endless(`its groups are nested more than ${MOST_DEPTH} deep`);
    let ambiguous = false;
    let unbounded = 0;
    for (;;) {
      const part = this.sequence(depth);
      ambiguous ||= part.ambiguous;
      unbounded = Math.max(unbounded, part.unbounded);
      if (this.text[this.at] !== '|') return { ambiguous, unbounded };
      ambiguous = true;
      this.at++;
    }
  }

  private sequence(depth: number): Part {
    let ambiguous = false;
    let unbounded = 0;
    while (this.at < this.text.length && this.text[this.at] !== '|' && this.text[this.at] !== ')') {
      const start = this.at;
      const atom = this.atom(depth);
      const part = this.quantified(atom, start);
      ambiguous ||= part.ambiguous;
      unbounded += part.unbounded;
    }
    // At the top a stray parenthesis is for the compiler to complain about.
    if (depth === 0 && this.text[this.at] === ')') {
      this.at++;
      const rest = this.sequence(depth);
      return { ambiguous: true, unbounded: unbounded + rest.unbounded };
    }
    return { ambiguous, unbounded };
  }

  private atom(depth: number): Part {
    const character = this.text[this.at++];
    if (character === '\\') this.escape();
    else if (character === '[') this.characterClass();
    else if (character === '(') {
      const part = this.alternatives(depth + 1);
      if (this.text[this.at] === ')') this.at++;
      return part;
    }
    return SIMPLE;
  }

  private escape(): void {
    const braced = /^[pPxuko]\{[^}]*\}/.exec(this.text.slice(this.at, this.at + 80));
    this.at += braced ? braced[0].length : 1;
  }

  private characterClass(): void {
    let depth = 1;
    if (this.text[this.at] === '^') this.at++;
    if (this.text[this.at] === ']') this.at++;
    while (depth > 0 && this.at < this.text.length) {
      const character = this.text[this.at++];
      if (character === '\\') this.at++;
      // Oniguruma's classes may hold classes. JavaScript's may not, but there a "[" inside needs no "]": then the rest of
      // the pattern is read as part of this class, and is not judged by a wrong reading of it.
      else if (character === '[') depth++;
      else if (character === ']') depth--;
    }
    if (depth > 0) throw new Endless('one of its character classes has no end');
  }

  private quantified(atom: Part, start: number): Part {
    const found = /^(?:([*+?])|\{(\d*)(,?)(\d*)\})[?+]?/.exec(this.text.slice(this.at, this.at + 30));
    if (!found) return atom;
    this.at += found[0].length;
    const [, sign, from = '', comma = '', to = ''] = found;
    const least = sign === undefined ? Number(from) : sign === '+' ? 1 : 0;
    let most = comma === '' ? least : to === '' ? Number.POSITIVE_INFINITY : Number(to);
    if (sign !== undefined) most = sign === '?' ? 1 : Number.POSITIVE_INFINITY;
    if (Number.isFinite(most) && most > MOST_REPEATS) throw new Endless(`it repeats something ${most} times`);
    if (most > 1 && atom.ambiguous) {
      throw new Endless(
        `it repeats ${JSON.stringify(this.text.slice(start, this.at).slice(0, 60))}, which itself varies`,
      );
    }
    const whole = { ambiguous: atom.ambiguous || least !== most, unbounded: atom.unbounded };
    const next = Number.isFinite(most) ? whole : { ...whole, unbounded: whole.unbounded + 1 };
    // A quantifier on a quantified atom, as in a{2}{3}.
    return /^[*+?{]/.test(this.text.slice(this.at, this.at + 1)) ? this.quantified(next, start) : next;
  }
}
