import type { Random } from '@zebra/tensor';
import { oneIn, pick } from './draw.js';
import { copyTree, type JsonTree, Members, Raw, toText } from './json-tree.js';
import { mutateText } from './mutate-bytes.js';

const NUMBERS: readonly JsonTree[] = [
  ...[0, -0, 1, -1, 2, 3, 0.5, 1.5, 127, 128, 255, 256, 4096, 4097, 65_536, 2 ** 24, 2 ** 24 - 1, 2 ** 31 - 1, 2 ** 31],
  ...[2 ** 32, 2 ** 32 + 1, 2 ** 52, 2 ** 53 - 1, 2 ** 53, 2 ** 63, 2 ** 64, -(2 ** 31), -(2 ** 63), 1e-308, 5e-324],
  ...[1e21, 1e308, -1e308].map((value): JsonTree => value),
  ...[
    '1e309',
    '-1e400',
    '1e-400',
    '18446744073709551616',
    '1.0',
    '1e0',
    '-0',
    '0x10',
    '01',
    '+1',
    'NaN',
    'Infinity',
  ].map((text) => new Raw(text)),
  new Raw('9'.repeat(400)),
];

const STRINGS: readonly JsonTree[] = [
  ...[
    '',
    ' ',
    '0',
    '-1',
    'null',
    'true',
    '__proto__',
    'constructor',
    'toString',
    'hasOwnProperty',
    'length',
    'default',
  ],
  ...[
    '..',
    '../../etc/passwd',
    '/etc/passwd',
    'C:\\a',
    'a/../b',
    'a\0b',
    '\n',
    '\u2028',
    '\ufeff',
    '\ufffd',
    'é',
    '漢字',
  ],
  ...['😀', '👩‍👩‍👧', '\u202e', 'ﷺ', 'İ', '%s%n', '$\u007bx}', '{{ x }}', '(a+)+$', '[', '(?<=', '\\p{', '$&', '$1'],
  'x'.repeat(5000),
  ...['"\\ud800"', '"\\udfff\\ud800"', '"\\u0000"', '"\\x"', '"', "'a'"].map((text) => new Raw(text)),
];

const KEYS = [
  '__proto__',
  'constructor',
  'prototype',
  'toString',
  'length',
  '',
  '0',
  '-1',
  '4294967295',
  'type',
  'é',
  '\u0000',
];

/** Nesting beyond what any reader should follow. */
function nested(random: Random): Raw {
  const depth = pick(random, [5, 17, 130, 1000, 20_000]);
  return new Raw(
    oneIn(random, 2) ? `${'['.repeat(depth)}1${']'.repeat(depth)}` : `${'{"a":'.repeat(depth)}1${'}'.repeat(depth)}`,
  );
}

/** A value that is as a rule wrong wherever it stands. */
export function oddValue(random: Random): JsonTree {
  switch (random.integer(8)) {
    case 0:
      return pick(random, [null, true, false]);
    case 1:
      return [];
    case 2:
      return new Members([]);
    case 3:
      return pick(random, STRINGS);
    case 4:
      return oneIn(random, 3) ? nested(random) : Array.from({ length: random.integer(6) }, () => pick(random, NUMBERS));
    case 5:
      return new Members([[pick(random, KEYS), pick(random, NUMBERS)]]);
    default:
      return pick(random, NUMBERS);
  }
}

interface Place {
  /** What holds the value. */
  readonly parent: Members | JsonTree[];
  readonly at: number;
}

/** A random place in the tree; deep ones as likely as shallow ones. */
function placeIn(tree: JsonTree, random: Random): Place | undefined {
  let found: Place | undefined;
  let at = tree;
  for (;;) {
    const size = at instanceof Members ? at.list.length : Array.isArray(at) ? at.length : 0;
    if (size === 0) return found;
    if (found && oneIn(random, 4)) return found;
    const parent = at as Members | JsonTree[];
    found = { parent, at: random.integer(size) };
    at = valueAt(found);
  }
}

function valueAt({ parent, at }: Place): JsonTree {
  return parent instanceof Members ? parent.list[at]![1] : (parent[at] as JsonTree);
}

function setAt({ parent, at }: Place, value: JsonTree): void {
  if (parent instanceof Members) parent.list[at]![1] = value;
  else parent[at] = value;
}

/** JSON text of a valid document after one to four changes of its values, keys and structure, some of its bytes too. */
export function mutatedJson(valid: JsonTree, random: Random, odd: (random: Random) => JsonTree = oddValue): string {
  let tree = copyTree(valid);
  for (let left = oneIn(random, 2) ? 1 : 1 + random.integer(4); left > 0; left--) tree = mutateOnce(tree, random, odd);
  const text = toText(tree);
  return oneIn(random, 10) ? mutateText(text, random) : text;
}

function mutateOnce(tree: JsonTree, random: Random, odd: (random: Random) => JsonTree): JsonTree {
  const place = placeIn(tree, random);
  if (!place || oneIn(random, 100)) return odd(random);
  const { parent, at } = place;
  const value = valueAt(place);
  switch (random.integer(10)) {
    case 0:
      (parent instanceof Members ? parent.list : parent).splice(at, 1);
      break;
    case 1:
      if (parent instanceof Members)
        parent.list[at]![0] = oneIn(random, 2) ? pick(random, KEYS) : otherKey(parent, random);
      else parent.push(copyTree(value));
      break;
    case 2: {
      const copy = oneIn(random, 2) ? copyTree(value) : odd(random);
      if (parent instanceof Members)
        parent.list.splice(random.integer(parent.list.length + 1), 0, [parent.list[at]![0], copy]);
      else for (let times = pick(random, [1, 3, 300]); times > 0; times--) parent.push(copy);
      break;
    }
    case 3: {
      const other = placeIn(tree, random)!;
      // A part of itself would make the tree endless.
      setAt(place, copyTree(valueAt(other)));
      break;
    }
    case 4:
      if (parent instanceof Members) parent.list.push([pick(random, KEYS), odd(random)]);
      else parent.splice(at, 0, odd(random));
      break;
    case 5:
      setAt(place, typeof value === 'string' ? mutateText(value, random) : nudged(value, random));
      break;
    default:
      setAt(place, typeof value === 'number' && oneIn(random, 2) ? nudged(value, random) : odd(random));
  }
  return tree;
}

function otherKey({ list }: Members, random: Random): string {
  return pick(random, list)[0];
}

function nudged(value: JsonTree, random: Random): JsonTree {
  if (typeof value === 'boolean') return !value;
  if (typeof value !== 'number') return [value];
  return pick(random, [value + 1, value - 1, value * 2, value / 2, -value, value * 1e6, value + 0.5, String(value)]);
}
