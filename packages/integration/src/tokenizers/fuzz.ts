import fc from 'fast-check';

const SPECIAL = [
  ...['<s>', '</s>', '<unk>', '<0x41>', '<0xE2>', '▁', '▁▁'],
  ...['<|begin_of_text|>', '<|end_of_text|>', '<|eot_id|>', '<|start_header_id|>', '<|reserved_special_token_0|>'],
  ...['<|endoftext|>', '<|im_start|>', '<|im_end|>', '<think>', '</think>', '<tool_call>', '<|', '|>'],
];
const PITFALLS = [
  ...["'s", "'RE", "'ll", "'ſ", 'ſ', 'İ', 'ß', 'ﬁ'],
  ...[
    'e\u0301',
    '\u212b',
    '\u0344',
    '\u1100\u1161',
    '한국어',
    'ไทย',
    'हिन्दी',
    'שָׁלוֹם',
    'العربية',
    '中文。',
    '，',
    '日本語',
  ],
  ...['😀', '👩‍👩‍👧', '👍🏽', '🇨🇭', '𝒳', '\u{20000}', '\ufeff', '\u200d', '\u00ad', '\ufffd', '\uffff'],
  ...['\0', '\x1b[0m', '\x7f', '\r\n', '\n\n\n', '\t', '\v', '\f', '\x85', '\u2028', '\u00a0', '\u3000', '\u180e'],
];

const range = (min: number, max: number) =>
  fc.string({ unit: fc.integer({ min, max }).map((code) => String.fromCodePoint(code)), maxLength: 8 });

/** Pieces of text that tokenizers stumble over, put together; lone surrogates are among them. */
const pieces = fc.oneof(
  fc.string({ unit: 'grapheme-ascii', maxLength: 20 }),
  fc.string({ unit: 'grapheme', maxLength: 12 }),
  fc.string({ unit: 'binary', maxLength: 12 }),
  range(0, 0x2ff),
  range(0x300, 0x2fff),
  range(0x3000, 0xffff),
  range(0x1f000, 0x1faff),
  fc.stringMatching(/^[ \t\n\r]{0,6}$/),
  fc.stringMatching(/^[0-9.,+ -]{0,9}$/),
  fc.constantFrom(...SPECIAL),
  fc.constantFrom(...PITFALLS),
);

/** Fuzzed texts of the characters that `known` holds for usable. */
export function fuzzedTexts(known: (character: string) => boolean): fc.Arbitrary<string> {
  return fc
    .array(pieces, { maxLength: 8 })
    .map((parts) => [...parts.join('')].filter((character) => known(character)).join(''));
}
