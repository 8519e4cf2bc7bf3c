import { ZebraError } from '@zebra/tensor';
import { describe, expect, it } from 'vitest';
import { ChatTemplate, type RenderChatOptions } from './index.js';

const MESSAGES = [
  { role: 'system', content: 'Be brief.' },
  { role: 'user', content: ' Hi "you" ' },
];

function codeOf(source: string, options: RenderChatOptions = {}, content = 'x'.repeat(50_000)): string {
  try {
    new ChatTemplate(source).render([{ role: 'user', content }], options);
  } catch (error) {
    if (!ZebraError.is(error)) throw error;
    return `${error.code}: ${error.message}`;
  }
  return 'no error';
}

describe('ChatTemplate', () => {
  it('writes a conversation', () => {
    const template = new ChatTemplate(
      "{{ bos_token }}{% for message in messages %}\n    {{- '<|' + message['role'] + '|>' + message['content'] | trim + '\\n' }}\n{%- endfor %}{% if add_generation_prompt %}<|assistant|>{% endif %}",
      { bos_token: '<s>' },
    );
    expect(template.render(MESSAGES)).toBe('<s><|system|>Be brief.\n<|user|>Hi "you"\n');
    expect(template.render(MESSAGES, { addGenerationPrompt: true })).toMatch(/\n<\|assistant\|>$/);
  });

  it('gives tools, variables and the time', () => {
    const render = (source: string, options: RenderChatOptions) => new ChatTemplate(source).render(MESSAGES, options);
    expect(render('{{ tools is none }}', {})).toBe('true');
    expect(render('{{ tools | tojson }}', { tools: [{ name: 'f' }] })).toBe('[{"name": "f"}]');
    expect(render('{{ enable_thinking }}', { variables: { enable_thinking: false } })).toBe('false');
    const now = new Date(2024, 6, 4, 9, 5);
    expect(render('{{ strftime_now("%d %b %Y %H:%M") }}', { now })).toBe('04 Jul 2024 09:05');
    expect(render('{% for i in range(2, 11, 3) %}{{ i }},{% endfor %}', {})).toBe('2,5,8,');
    expect(render('{% for i in range(3, 0, -1) %}{{ i }},{% endfor %}', {})).toBe('3,2,1,');
  });

  it('says when a template refuses, fails, or cannot be parsed', () => {
    expect(codeOf('{{ raise_exception("no system message") }}')).toBe(
      'argument: chat template: it refuses these messages: no system message',
    );
    expect(codeOf('{{ messages + 1 }}')).toMatch(/^format: chat template: it fails/);
    expect(codeOf('{% for x in messages %}')).toMatch(/^format: chat template: it cannot be parsed/);
    expect(codeOf(`{{ ${'('.repeat(20_000)}1${')'.repeat(20_000)} }}`)).toMatch(/^format: .*cannot be parsed/);
    expect(codeOf(' '.repeat(1001))).toMatch(/^format: .*1000 blanks/);
    expect(codeOf('x'.repeat(200_000))).toMatch(/^format: .*at most 131072 characters/);
  });

  it('passes long conversations', () => {
    const template = new ChatTemplate(
      '{% for m in messages %}{% if loop.previtem %}|{% endif %}{{ m.content | replace("x", "yy") | indent(2) }}{{ messages | length }}{% endfor %}',
    );
    const long = Array.from({ length: 2000 }, () => ({ role: 'user', content: 'x'.repeat(500) }));
    expect(template.render(long)).toHaveLength(2000 * 1004 + 1999);
  });
});

// 512 Ki characters, made by doubling.
const LARGE = '{% set ns = namespace(x="aaaaaaaa") %}{% for i in range(16) %}{% set ns.x = ns.x ~ ns.x %}{% endfor %}';

describe('a template that would run forever is stopped', () => {
  it.each([
    ['a long range', '{% for i in range(10**9) %}x{% endfor %}', /range\(\) of 1000000000/],
    ['doubled text', `${LARGE}{{ ns.x ~ ns.x ~ ns.x }}`, /a value of more than/],
    ['text put out again and again', '{% for i in range(99999) %}{{ messages[0].content }}{% endfor %}', /too long/],
    ['replace as a method', `${LARGE}{{ ns.x.replace("a", ns.x) | length }}`, /an operation whose result/],
    ['replace as a filter', `${LARGE}{{ ns.x | replace("a", ns.x) | length }}`, /an operation whose result/],
    ['replace as a block', `${LARGE}{% filter replace("a", ns.x) %}{{ ns.x }}{% endfilter %}`, /an operation whose/],
    ['join', `${LARGE}{{ ns.x | join(ns.x) | length }}`, /an operation whose result/],
    ['indent', '{{ "a\nb" | indent(width=100000000) }}', /an operation whose result/],
    [
      'lists of lists',
      '{% set ns = namespace(x=["a"]) %}{% for i in range(60) %}{% set ns.x = [ns.x, ns.x] %}{% endfor %}{{ ns.x }}',
      /a value of more than/,
    ],
    [
      'a list that grows later',
      '{% set ns = namespace() %}{% set a = [ns, ns] %}{% set ns.x = "y" %}{% for i in range(50) %}{% set ns.x = [ns.x, ns.x] %}{% endfor %}{{ a }}',
      /a value of more than/,
    ],
    ['a cycle', '{% set ns = namespace() %}{% set ns.x = [ns, ns] %}{{ ns }}', /nested more than 200 levels/],
  ])('%s', (_, source, message) => {
    // Steps and sizes alone, so that the outcome does not depend on the machine.
    const outcome = codeOf(source, { budget: { milliseconds: 60_000 } });
    expect(outcome).toMatch(/^data: chat template/);
    expect(outcome).toMatch(message);
  });

  it('loops in loops', () => {
    expect(codeOf(loops(5), { budget: { milliseconds: 60_000, steps: 20_000 } })).toMatch(/more than 20000 steps/);
  });

  it('by the clock, too', () => {
    const started = performance.now();
    expect(codeOf(loops(5), { budget: { milliseconds: 50, steps: 1e12 } })).toMatch(/more than 50 ms/);
    expect(performance.now() - started).toBeLessThan(5000);
  });

  it('a macro that calls itself', () => {
    expect(codeOf('{% macro f() %}{{ f() }}{% endmacro %}{{ f() }}')).toMatch(/^(data|format): /);
  });
});

function loops(depth: number): string {
  return depth === 0 ? '' : `{% for i in range(1000) %}${loops(depth - 1)}{% endfor %}`;
}
