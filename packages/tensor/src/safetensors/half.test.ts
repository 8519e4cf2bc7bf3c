import { describe, expect, it } from 'vitest';
import { bfloat16ToFloat32, float16ToFloat32, float32ToBfloat16, float32ToFloat16 } from './half.js';

const allBits = Uint16Array.from({ length: 65536 }, (_, bits) => bits);
const floatOf = new Float32Array(1);
const bitsOf = new Uint32Array(floatOf.buffer);

/** The value of a pattern straight from the format's definition. */
function decode(bits: number, exponentBits: number, fractionBits: number): number {
  const sign = bits >> 15 ? -1 : 1;
  const exponent = (bits >> fractionBits) & (2 ** exponentBits - 1);
  const fraction = (bits & (2 ** fractionBits - 1)) / 2 ** fractionBits;
  const bias = 2 ** (exponentBits - 1) - 1;
  if (exponent === 2 ** exponentBits - 1) return fraction === 0 ? sign * Infinity : NaN;
  return exponent === 0 ? sign * fraction * 2 ** (1 - bias) : sign * (1 + fraction) * 2 ** (exponent - bias);
}

function next(value: number, steps: number): number {
  floatOf[0] = value;
  bitsOf[0] = (bitsOf[0] as number) + steps;
  return floatOf[0];
}

const formats = [
  { name: 'float16', widen: float16ToFloat32, narrow: float32ToFloat16, exponent: 5, fraction: 10, infinity: 0x7c00 },
  { name: 'bfloat16', widen: bfloat16ToFloat32, narrow: float32ToBfloat16, exponent: 8, fraction: 7, infinity: 0x7f80 },
];

describe.each(formats)('$name', ({ widen, narrow, exponent, fraction, infinity }) => {
  const wide = widen(allBits);

  it('widens every pattern to the value the format defines', () => {
    const expected = Float32Array.from(allBits, (bits) => decode(bits, exponent, fraction));
    const wrong = allBits.filter((bits) => !Object.is(wide[bits], expected[bits]));
    expect([...wrong]).toEqual([]);
  });

  it('brings every pattern back unchanged, NaN payloads and signed zeros included', () => {
    expect(Buffer.compare(Buffer.from(narrow(wide).buffer), Buffer.from(allBits.buffer))).toBe(0);
  });

  it('rounds to nearest, ties to even, between every two neighbours', () => {
    const inputs: number[] = [];
    const expected: number[] = [];
    for (const sign of [0, 0x8000]) {
      for (let low = 0; low < infinity; low++) {
        const a = decode(low, exponent, fraction);
        // Past the largest finite value rounding goes as if the exponent had no end.
        const b =
          low + 1 === infinity ? 2 * a - decode(low - 1, exponent, fraction) : decode(low + 1, exponent, fraction);
        const middle = (a + b) / 2;
        const even = low % 2 === 0 ? low : low + 1;
        for (const [value, bits] of [
          [next(middle, -1), low],
          [middle, even],
          [next(middle, 1), low + 1],
        ] as const) {
          inputs.push(sign === 0 ? value : -value);
          expected.push(sign | bits);
        }
      }
    }
    const got = narrow(Float32Array.from(inputs));
    expect(got.findIndex((bits, i) => bits !== expected[i])).toBe(-1);
  });

  it('gives infinity past the range, and NaN for every NaN', () => {
    expect([...narrow(Float32Array.of(3.4e38, Infinity, -Infinity, -3.4028234e38))].map((b) => b & 0x7fff)).toEqual([
      ...(fraction === 10
        ? [infinity, infinity, infinity, infinity]
        : [narrow(Float32Array.of(3.4e38))[0], infinity, infinity, infinity]),
    ]);
    const nans = new Float32Array(Uint32Array.of(0x7fc00000, 0x7f800001, 0xff800001, 0x7fffffff, 0xffffffff).buffer);
    for (const value of widen(narrow(nans))) expect(value).toBeNaN();
  });
});
