import type { Random } from '@zebra/tensor';
import { oneIn, pick } from './draw.js';

const NAMES = [
  'messages',
  'messages',
  'm',
  'x',
  'ns',
  'ns.x',
  'loop.index0',
  'tools',
  'bos_token',
  'none',
  'i',
  'messages[0].content',
];
const TEXTS = ["'a'", '"<|im_start|>"', "'x' * 3", "''", "'\\n'", '"é😀"', "'%d %b %Y'"];
const COUNTS = ['0', '1', '3', '100', '-1', '99999', '100000', '10**9', '1e18', '2**70', '0.5'];
const FILTERS = [
  ...['trim', 'length', 'upper', 'tojson', 'list', 'first', 'last', 'reverse', 'string', 'int', 'float', 'abs', 'sort'],
  ...['join(x)', 'join', "replace('a', x)", 'indent(99999)', 'indent(4)', 'default(x)', 'items', 'dictsort', 'safe'],
  ...['tojson(indent=4)', "selectattr('role')", "map(attribute='role')", "rejectattr('x', 'equalto', 1)", 'unique'],
  ...["split('a')", 'capitalize', 'title', 'nope', 'tojson(indent=100000)', "map('upper')", 'select', 'batch(2)'],
];
const METHODS = [
  ...[
    '.strip()',
    '.split()',
    ".split('')",
    '.items()',
    '.keys()',
    ".replace('a', x)",
    '.upper()',
    ".get('role')",
    '[0]',
  ],
  ...[
    '[-1]',
    '[::2]',
    '[::-1]',
    '[1:]',
    '[::0]',
    "['__proto__']",
    '.constructor',
    "['constructor']('x')",
    '.role',
    '.content',
  ],
  ...[
    '.__proto__',
    '.startswith(x)',
    '.rstrip()',
    '.lstrip("a")',
    '.append(x)',
    '.pop()',
    '.title()',
    '.value',
    '.nope',
  ],
];
const OPERATORS = ['+', '~', '*', '-', '/', '//', '%', '**', 'and', 'or', '==', '<', 'in', 'not in', 'is', '|'];
const TESTS = [
  'defined',
  'none',
  'string',
  'mapping',
  'iterable',
  'odd',
  'divisibleby(0)',
  'equalto(1)',
  'true',
  'nope',
];

/** An expression of so many levels, well formed or nearly. */
export function expression(random: Random, depth: number): string {
  if (depth <= 0 || oneIn(random, 4))
    return pick(random, [pick(random, NAMES), pick(random, TEXTS), pick(random, COUNTS)]);
  const inner = () => expression(random, depth - 1);
  switch (random.integer(12)) {
    case 0:
      return `${inner()} | ${pick(random, FILTERS)}`;
    case 1:
      return `(${inner()})${pick(random, METHODS)}`;
    case 2:
      return `range(${oneIn(random, 2) ? pick(random, COUNTS) : inner()})`;
    case 3:
      return `[${inner()}, ${inner()}]`;
    case 4:
      return `{${pick(random, TEXTS)}: ${inner()}}`;
    case 5:
      return `(${inner()} if ${inner()} else ${inner()})`;
    case 6:
      return `${inner()} is ${oneIn(random, 3) ? 'not ' : ''}${pick(random, TESTS)}`;
    case 7:
      return `f(${inner()})`;
    case 8:
      return `not ${inner()}`;
    case 9:
      return pick(random, [
        "strftime_now('%Y')",
        'raise_exception("no")',
        'namespace(x=1)',
        'dict(a=1)',
        'joiner()',
        'cycler(1)',
      ]);
    default:
      return `${inner()} ${pick(random, OPERATORS)} ${inner()}`;
  }
}

/** A template of so many levels of blocks. */
export function template(random: Random, depth: number): string {
  let text = '';
  for (let left = random.integer(4) + (depth > 0 ? 1 : 0); left > 0; left--) text += block(random, depth);
  return text;
}

function block(random: Random, depth: number): string {
  const value = () => expression(random, oneIn(random, 3) ? 1 + random.integer(4) : random.integer(2));
  const inside = () => (depth <= 0 ? `{{ ${value()} }}` : template(random, depth - 1));
  const dash = () => (oneIn(random, 3) ? '-' : '');
  switch (random.integer(11)) {
    case 0:
    case 1:
      return `{%${dash()} for ${pick(random, ['m', 'x', 'i', 'k, v'])} in ${value()} ${dash()}%}${inside()}{% endfor %}`;
    case 2:
      return `{% if ${value()} %}${inside()}{% elif ${value()} %}${inside()}{% else %}${inside()}{% endif %}`;
    case 3:
      return `{% set ${pick(random, ['x', 'ns', 'ns.x', 'm', 'messages', 'range', 'i, x'])} = ${value()} %}`;
    case 4:
      return `{% set ns = namespace(x=${value()}) %}`;
    case 5:
      return `{% macro f(x) %}${inside()}{{ f(${oneIn(random, 2) ? 'x' : value()}) }}{% endmacro %}{{ f(${value()}) }}`;
    case 6:
      return `{% filter ${pick(random, FILTERS)} %}${inside()}{% endfilter %}`;
    case 7:
      return `{# ${value()} #} text \n`;
    case 8:
      return `{% set x %}${inside()}{% endset %}{% set x = x ~ x %}`;
    case 9:
      return pick(random, [
        '{% break %}',
        '{% generation %}x{% endgeneration %}',
        '{% call f(1) %}a{% endcall %}',
        '{{',
        '%}',
        '{% endfor %}',
      ]);
    default:
      return `{{${dash()} ${value()} ${dash()}}}`;
  }
}

/** Templates that are hard in one known way. */
export const HARD: readonly string[] = [
  `{{ ${'('.repeat(4000)}1${')'.repeat(4000)} }}`,
  `{{ ${'-'.repeat(20_000)}1 }}`,
  `{{ ${'not '.repeat(20_000)}1 }}`,
  `{{ x${'.a'.repeat(20_000)} }}`,
  `{{ x${' | trim'.repeat(15_000)} }}`,
  `{{ ${'['.repeat(20_000)} }}`,
  `{{ 'a'${" ~ 'a'".repeat(10_000)} }}`,
  `{{ 1${' if 1 else 2'.repeat(5000)} }}`,
  `${'{% if true %}'.repeat(3000)}x${'{% endif %}'.repeat(3000)}`,
  `${'{% for i in [1] %}'.repeat(1500)}x${'{% endfor %}'.repeat(1500)}`,
  `${'{% for i in range(1000) %}'.repeat(4)}x${'{% endfor %}'.repeat(4)}`,
  '{% macro f(x) %}{{ f(x) }}{{ f(x) }}{% endmacro %}{{ f(1) }}',
  '{% macro f(x) %}{% for i in range(100) %}{{ f(i) }}{% endfor %}{% endmacro %}{{ f(1) }}',
  '{% set ns = namespace(x="ab") %}{% for i in range(100) %}{% set ns.x = ns.x ~ ns.x %}{% endfor %}{{ ns.x }}',
  '{% set ns = namespace(x=[1]) %}{% for i in range(100) %}{% set ns.x = ns.x + ns.x %}{% endfor %}{{ ns.x | tojson }}',
  '{% set ns = namespace() %}{% set ns.x = ns %}{{ ns | tojson }}{{ ns.x }}{{ ns == ns }}',
  '{{ "x" * 1000000000 }}{{ [0] * 1000000000 }}',
  '{{ messages | map(attribute="content") | join(",") * 100000 }}',
  '{{ range(100000) | map("string") | join(range(100000) | join) | length }}',
  `{{ ${'"'}${'a'.repeat(100_000)}${'"'} }}`,
  `${'{'.repeat(50_000)}`,
  `${'{%'.repeat(20_000)}`,
  `${'{#'.repeat(20_000)}`,
  `{{ "${'\\'.repeat(50_001)}" }}`,
  `${'\n'.repeat(900)}{%- if x -%}${' '.repeat(900)}{% endif %}`.repeat(60),
];
