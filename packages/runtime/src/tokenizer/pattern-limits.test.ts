import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { createTokenizer } from './index.js';
import { endlessPattern } from './pattern-limits.js';

/** The patterns by which published tokenizers split text. */
const PUBLISHED = {
  'GPT-2': "'s|'t|'re|'ve|'m|'ll|'d| ?\\p{L}+| ?\\p{N}+| ?[^\\s\\p{L}\\p{N}]+|\\s+(?!\\S)|\\s+",
  'Llama 3':
    "(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\\r\\n\\p{L}\\p{N}]?\\p{L}+|\\p{N}{1,3}| ?[^\\s\\p{L}\\p{N}]+[\\r\\n]*|\\s*[\\r\\n]+|\\s+(?!\\S)|\\s+",
  'GPT-4o':
    "[^\\r\\n\\p{L}\\p{N}]?[\\p{Lu}\\p{Lt}\\p{Lm}\\p{Lo}\\p{M}]*[\\p{Ll}\\p{Lm}\\p{Lo}\\p{M}]+(?i:'s|'t|'re|'ve|'m|'ll|'d)?|\\p{N}{1,3}| ?[^\\s\\p{L}\\p{N}]+[\\r\\n/]*|\\s*[\\r\\n]+|\\s+(?!\\S)|\\s+",
  'DeepSeek-V3':
    '[!"#$%&\'()*+,\\-./:;<=>?@\\[\\\\\\]^_`{|}~][A-Za-z]+|[^\\r\\n\\p{L}\\p{P}\\p{S}]?[\\p{L}\\p{M}]+| ?[\\p{P}\\p{S}]+[\\r\\n]*|\\s*[\\r\\n]+|\\s+(?!\\S)|\\s+',
  Bloom: ' ?[^(\\s|[.,!?…。，、।۔،])]+',
  T5: ' {2,}',
};

describe('endlessPattern', () => {
  it.each(Object.entries(PUBLISHED))('lets the pattern of %s pass', (_, pattern) => {
    expect(endlessPattern(pattern)).toBeUndefined();
  });

  it.each([
    ['(a+)+$', /itself varies/],
    ['(a|a)*$', /itself varies/],
    ['(?:a?){30}a{30}', /itself varies/],
    ['((a{2,})b){2}', /itself varies/],
    ['([ab]{1,9}){1,9}', /itself varies/],
    ['(?:x(?:y)*)+', /itself varies/],
    ['\\)(a*)*', /itself varies/],
    ['[)](a*)*', /itself varies/],
    ['a{1,3}{1,3}', /itself varies/],
    ['a*b*c*d*', /more than 3 quantifiers/],
    ['a(b*)c*(?=d*)e*', /more than 3 quantifiers/],
    ['a{1001}', /1001 times/],
    ['[a', /no end/],
  ])('refuses %s', (pattern, why) => {
    expect(endlessPattern(pattern)).toMatch(why);
  });

  it('refuses what is too long or too deep to judge', () => {
    expect(endlessPattern('('.repeat(51))).toMatch(/nested more than 50 deep/);
    expect(endlessPattern('a'.repeat(10_001))).toMatch(/more than 10000 characters/);
  });

  it('lets nothing pass that takes exponential time', () => {
    const atom = fc.constantFrom('a', '[ab]', '.', '\\w', 'b', '\\p{L}');
    const quantifier = fc.constantFrom('', '', '*', '+', '?', '{2}', '{1,3}', '{2,}', '*?', '+?', '??');
    const { pattern } = fc.letrec<{ pattern: string }>((tie) => ({
      pattern: fc.oneof(
        { depthSize: 'small', withCrossShrink: true },
        fc.tuple(atom, quantifier).map((parts) => parts.join('')),
        fc.tuple(tie('pattern'), tie('pattern')).map((parts) => parts.join('')),
        fc.tuple(tie('pattern'), tie('pattern')).map((parts) => parts.join('|')),
        fc
          .tuple(fc.constantFrom('(', '(?:', '(?=', '(?!'), tie('pattern'), quantifier)
          .map(([a, b, q]) => `${a}${b})${q}`),
      ),
    }));
    const texts = [`${'a'.repeat(60)}!`, `${'ab'.repeat(30)}!`];
    let judged = 0;
    fc.assert(
      fc.property(pattern, (source) => {
        if (endlessPattern(source)) return;
        let regex: RegExp;
        try {
          // No match at the end, so that every way is tried.
          regex = new RegExp(`(?:${source})#`, 'gu');
        } catch {
          return;
        }
        judged++;
        const started = process.cpuUsage();
        for (const text of texts) text.match(regex);
        const { user, system } = process.cpuUsage(started);
        // The fourth power of 60 is 13 million steps; 2^60 would never end.
        expect((user + system) / 1000).toBeLessThan(3000);
      }),
      { numRuns: 2000, seed: 3 },
    );
    expect(judged).toBeGreaterThan(300);
  });
});

describe('a tokenizer file that would cost its user without bounds is refused', () => {
  const model = { type: 'BPE', unk_token: '<unk>', vocab: { '<unk>': 0, a: 1, b: 2 }, merges: [] };
  const rest = { normalizer: null, pre_tokenizer: null, post_processor: null, decoder: null };
  const replace = (content: string) => ({ type: 'Replace', pattern: { String: 'a' }, content });
  const sequence = (length: number) => Array.from({ length }, () => ({ Sequence: { id: 'A', type_id: 0 } }));

  it.each<[string, object, RegExp]>([
    [
      'a pattern without end',
      { pre_tokenizer: { type: 'Split', pattern: { Regex: '(a+)+$' }, behavior: 'Isolated' } },
      /pre_tokenizer: the pattern "\(a\+\)\+\$" may take forever/,
    ],
    [
      'doubling again and again',
      { normalizer: { type: 'Sequence', normalizers: Array.from({ length: 40 }, () => replace('aa')) } },
      /normalizer: replacements that can make a text more than 1000 times longer/,
    ],
    ['a replacement of megabytes', { decoder: replace('x'.repeat(1e6)) }, /decoder: replacements/],
    [
      'a template that repeats the text',
      { post_processor: { type: 'TemplateProcessing', single: sequence(101), pair: [], special_tokens: {} } },
      /post_processor: a template of 101 entries/,
    ],
  ])('%s', (_, part, message) => {
    expect(() => createTokenizer({ tokenizerJson: { ...rest, model, ...part } })).toThrow(message);
  });

  it('a part that fails only in use gives our error', () => {
    const template = { type: 'TemplateProcessing', single: ['A'], pair: [], special_tokens: {} };
    const bad = createTokenizer({
      tokenizerJson: {
        ...rest,
        model,
        post_processor: template,
        decoder: { type: 'Replace', pattern: { String: 'a' }, content: { toString: 1, valueOf: 1 } },
      },
    });
    expect(() => bad.encode('a')).toThrow(/encode: tokenizer\.json is not a tokenizer that can be used/);
    expect(() => bad.decode([1])).toThrow(/decode: tokenizer\.json is not a tokenizer that can be used/);
  });

  it.each([-1, 172, 1.5, 'x'])('a Unigram whose unknown token is %s', (unk_id) => {
    const unigram = {
      type: 'Unigram',
      unk_id,
      vocab: [
        ['<unk>', 0],
        ['a', -1],
      ],
    };
    expect(() => createTokenizer({ tokenizerJson: { ...rest, model: unigram } })).toThrow(
      /tokenizer\.json: model\.unk_id: expected/,
    );
  });
});
