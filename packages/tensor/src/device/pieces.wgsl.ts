/** A binding that is cut into pieces, as the header of a kernel declares it. */
export interface CutBinding {
  readonly name: string;
  readonly access: 'read' | 'write';
  /** WGSL type of an element. */
  readonly element: string;
  /** Pieces, at least 2. */
  readonly pieces: number;
  /** Elements of each piece but the last. */
  readonly length: number;
}

/** How bindings are cut: how many pieces each has, and the bytes of each piece but the last. */
export interface Cuts {
  readonly counts: ReadonlyMap<string, number>;
  readonly bytes: number;
}

/** What a variant's bindings are where nothing is cut. */
export const UNCUT: Cuts = { counts: new Map(), bytes: 0 };

const getter = (name: string): string => `${name}_of_pieces`;
const setter = (name: string): string => `set_${name}_of_pieces`;

/** The name of a piece in WGSL. */
export function pieceName(name: string, piece: number): string {
  return `${name}_piece${piece}`;
}

/** WGSL functions that read, and for writable bindings write, an element by its index in the whole. */
export function pieceFunctions({ name, access, element, pieces, length }: CutBinding): string {
  const each = (write: (at: string) => string): string =>
    Array.from({ length: pieces }, (_, k) => {
      const statement = write(`${pieceName(name, k)}[i - ${k * length}u]`);
      return k === pieces - 1 ? `  ${statement}` : `  if (i < ${(k + 1) * length}u) { ${statement} }`;
    }).join('\n');
  const read = `fn ${getter(name)}(i: u32) -> ${element} {\n${each((at) => `return ${at};`)}\n}`;
  if (access === 'read') return read;
  return `${read}\nfn ${setter(name)}(i: u32, v: ${element}) {\n${each((at) => `${at} = v; return;`)}\n}`;
}

/**
 * A kernel's WGSL with every access `name[…]` to a binding turned into a call of its {@link pieceFunctions}. Kernels are
 * written as if each tensor were one array; only variants for tensors that are larger than a binding go through this.
 *
 * @throws TypeError for what functions cannot stand in for: pointers to elements, and writes to one component of a vector
 */
export function throughPieces(source: string, name: string): string {
  const text = source.replace(/\/\*[\s\S]*?\*\/|\/\/[^\n]*/g, '');
  return new Accesses(text, name).rewrite(0, text.length);
}

type Span = readonly [begin: number, end: number];

/** The accesses to one binding in WGSL without comments. Places are those in the whole text. */
class Accesses {
  private readonly text: string;
  private readonly name: string;
  /** Where another variable or parameter has the name. */
  private readonly shadows: readonly Span[];

  constructor(text: string, name: string) {
    this.text = text;
    this.name = name;
    if (new RegExp(`(?<![&\\w)\\]]\\s*)&\\s*${name}\\b(?!\\s*\\[)`).test(text)) refuse(name, 'a pointer to it');
    const declared = new RegExp(`\\b(?:let|const|var(?:\\s*<[^>]*>)?)\\s+${name}\\b|[(,]\\s*${name}\\s*:`, 'g');
    this.shadows = [...text.matchAll(declared)].map((match) => {
      const after = match.index + match[0].length;
      // A variable is not known in the expression that it begins with.
      const begin = /^[(,]/.test(match[0]) ? after : statementEnd(text, after);
      return [begin, scopeEnd(text, begin)];
    });
  }

  rewrite(from: number, to: number): string {
    const { text, name } = this;
    const access = new RegExp(`(?<![\\w.])${name}\\s*\\[`, 'g');
    access.lastIndex = from;
    let out = '';
    let done = from;
    for (let match = access.exec(text); match && match.index < to; match = access.exec(text)) {
      const { index: at } = match;
      if (this.shadows.some(([begin, end]) => begin <= at && at < end)) continue;
      const open = at + match[0].length;
      const close = closing(text, open);
      this.assertPlain(at, close + 1);
      const index = this.rewrite(open, close);
      out += text.slice(done, at);
      const assignment = /^\s*(<<|>>|[-+*/%&|^])?=(?!=)/.exec(text.slice(close + 1, to));
      if (assignment) {
        const start = close + 1 + assignment[0].length;
        done = statementEnd(text, start);
        const value = this.rewrite(start, done).trim();
        const operator = assignment[1];
        out += `${setter(name)}(${index}, ${operator ? `${getter(name)}(${index}) ${operator} (${value})` : value})`;
      } else {
        done = close + 1;
        out += `${getter(name)}(${index})`;
      }
      access.lastIndex = done;
    }
    return out + text.slice(done, to);
  }

  /** Throws for an access, from `begin` to `end`, that is neither a read nor a write of a whole element. */
  private assertPlain(begin: number, end: number): void {
    const { name } = this;
    const rest = this.text.slice(end);
    if (/(?<!&)&\s*$/.test(this.text.slice(0, begin)) && !/[\w)\]]\s*&\s*$/.test(this.text.slice(0, begin)))
      refuse(name, 'a pointer to an element');
    if (/^\s*(\.\w+|\[[^\]]*\])\s*([-+*/%&|^]|<<|>>)?=(?!=)/.test(rest))
      refuse(name, 'a component of an element that is written to');
    if (/^\s*(\+\+|--)/.test(rest)) refuse(name, 'an element that is counted up or down');
  }
}

function refuse(name: string, what: string): never {
  throw new TypeError(`${name}: ${what} does not work for a tensor that is bound in pieces`);
}

/** Where the bracket that was opened just before `from` closes. */
function closing(text: string, from: number): number {
  return balancedEnd(text, from, '');
}

/** Where a statement ends: at a semicolon, or at the parenthesis of a loop's head. */
function statementEnd(text: string, from: number): number {
  return balancedEnd(text, from, ';');
}

/** Where what is declared before `from` goes out of sight: at the end of its block, or of the block after its head. */
function scopeEnd(text: string, from: number): number {
  const end = balancedEnd(text, from, '');
  return text[end] === '}' ? end : balancedEnd(text, text.indexOf('{', end) + 1, '');
}

/** The first place from `from` on where a bracket closes that was opened before, or where `stop` stands in none. */
function balancedEnd(text: string, from: number, stop: string): number {
  let depth = 0;
  for (let at = from; at < text.length; at++) {
    const character = text[at]!;
    if (character === stop && depth === 0) return at;
    if ('([{'.includes(character)) depth++;
    else if (')]}'.includes(character) && --depth < 0) return at;
  }
  throw new TypeError('WGSL whose brackets do not close');
}
