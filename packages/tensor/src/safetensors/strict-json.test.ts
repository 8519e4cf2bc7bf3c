import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { OtherNumber, parseStrictJson, type StrictJson, StrictJsonError } from './strict-json.js';

function plain(value: StrictJson): unknown {
  if (value instanceof OtherNumber) return Number(value.text);
  if (Array.isArray(value)) return value.map(plain);
  if (!(value instanceof Map)) return value;
  return Object.fromEntries([...value].map(([key, item]) => [key, plain(item)]));
}

describe('parseStrictJson', () => {
  it('agrees with JSON.parse on every document without lone surrogates', () => {
    fc.assert(
      fc.property(fc.json({ maxDepth: 5, stringUnit: 'grapheme' }), fc.nat(3), (text, space) => {
        const spaced = JSON.stringify(JSON.parse(text), null, space);
        expect(plain(parseStrictJson(spaced))).toEqual(JSON.parse(spaced));
      }),
      { numRuns: 300 },
    );
  });

  it('accepts nothing that JSON.parse refuses', () => {
    const pieces = fc.constantFrom(
      '{',
      '}',
      '[',
      ']',
      ',',
      ':',
      '"a"',
      '"b"',
      '1',
      '-0',
      '1e5',
      '01',
      '.5',
      'true',
      'nul',
      ' ',
      '\\',
      '"',
      '\u0001',
    );
    fc.assert(
      fc.property(fc.array(pieces, { maxLength: 12 }), (parts) => {
        const text = parts.join('');
        let ours = true;
        try {
          parseStrictJson(text);
        } catch (error) {
          expect(error).toBeInstanceOf(StrictJsonError);
          ours = false;
        }
        if (ours) JSON.parse(text);
      }),
      { numRuns: 3000 },
    );
  });

  it('finds duplicate keys, also behind escapes', () => {
    for (const text of [
      '{"a":1,"a":1}',
      '{"a":1,"\\u0061":2}',
      '{"x":{"a":1,"b":2,"a":3}}',
      '{"__proto__":1,"__proto__":2}',
    ]) {
      expect(() => parseStrictJson(text)).toThrow(expect.objectContaining({ kind: 'duplicate' }));
    }
  });

  it('keeps the order of keys and treats __proto__ as one', () => {
    const value = parseStrictJson('{"z":1,"10":2,"__proto__":{"polluted":true},"2":3}') as Map<string, StrictJson>;
    expect([...value.keys()]).toEqual(['z', '10', '__proto__', '2']);
    expect(({} as Record<string, unknown>).polluted).toBeUndefined();
  });

  it('gives plain non-negative safe integers as numbers and all else with its text', () => {
    expect(parseStrictJson('[0,9007199254740991]')).toEqual([0, 9007199254740991]);
    const odd = ['-1', '-0', '1.0', '1e3', '9007199254740992', '9223372036854775808', '1E400'];
    expect(parseStrictJson(`[${odd.join()}]`)).toEqual(odd.map((text) => new OtherNumber(text)));
  });

  it.each([
    '',
    ' ',
    '{',
    '{"a"',
    '{"a":}',
    '[1,]',
    '{"a":1,}',
    '"',
    '"\\',
    '"\\x"',
    '"\\ud800"',
    '"\n"',
    'NaN',
    '1 2',
    '+1',
    "{'a':1}",
    '\ufeff{}',
  ])('refuses %j', (text) => {
    expect(() => parseStrictJson(text)).toThrow(StrictJsonError);
  });

  it('survives deep nesting and long strings', () => {
    expect(() => parseStrictJson('['.repeat(1e6))).toThrow(/nesting/);
    const long = 'x'.repeat(5e6);
    expect(parseStrictJson(`"${long}\\n"`)).toBe(`${long}\n`);
  });
});
