/**
 * The two 16-bit float formats, as arrays of bit patterns.
 *
 * float16 is IEEE 754 binary16 (1 sign, 5 exponent, 10 fraction bits, largest
 * finite value 65504); bfloat16 is the upper half of a float32. Narrowing
 * rounds to the nearest value, ties to even; values past the largest finite one
 * become infinity; NaN stays NaN and keeps the upper bits of its payload.
 */

let float16Table: Uint32Array | undefined;

/** float32 bit patterns of all 65536 float16 bit patterns; 256 KiB, made on first use. */
function float32BitsOfFloat16(): Uint32Array {
  if (float16Table !== undefined) return float16Table;
  const table = new Uint32Array(65536);
  for (let bits = 0; bits < 65536; bits++) {
    const sign = (bits & 0x8000) << 16;
    const fraction = bits & 0x3ff;
    let exponent = (bits >> 10) & 0x1f;
    let value: number;
    if (exponent === 0x1f) value = 0x7f800000 | (fraction << 13);
    else if (exponent !== 0) value = ((exponent + 112) << 23) | (fraction << 13);
    else if (fraction === 0) value = 0;
    else {
      // A subnormal becomes a normal float32: shift its leading bit into the implicit place.
      const shift = Math.clz32(fraction) - 21;
      exponent = 113 - shift;
      value = (exponent << 23) | (((fraction << shift) & 0x3ff) << 13);
    }
    table[bits] = sign | value;
  }
  float16Table = table;
  return table;
}

/** Widens float16 bit patterns [n] to float32 [n]; exact. Returns a new array. */
export function float16ToFloat32(bits: Uint16Array): Float32Array<ArrayBuffer> {
  const table = float32BitsOfFloat16();
  const out = new Uint32Array(bits.length);
  for (let i = 0; i < out.length; i++) out[i] = table[bits[i] as number] as number;
  return new Float32Array(out.buffer);
}

/** Rounds float32 [n] to float16 bit patterns [n]. Returns a new array. */
export function float32ToFloat16(values: Float32Array): Uint16Array<ArrayBuffer> {
  const input = new Uint32Array(values.buffer, values.byteOffset, values.length);
  const out = new Uint16Array(input.length);
  for (let i = 0; i < out.length; i++) {
    const bits = input[i] as number;
    const sign = (bits >>> 16) & 0x8000;
    const magnitude = bits & 0x7fffffff;
    let half: number;
    if (magnitude >= 0x47800000) {
      // 65536 and above, infinity, NaN. A NaN whose upper payload is empty must not turn into infinity.
      half = magnitude <= 0x7f800000 ? 0x7c00 : 0x7c00 | ((magnitude >>> 13) & 0x3ff || 0x200);
    } else if (magnitude >= 0x38800000) {
      // Normal in float16: move the exponent bias, add half a unit (less one for even), cut; the carry may reach infinity.
      const moved = magnitude - 0x38000000;
      half = (moved + 0xfff + ((moved >>> 13) & 1)) >>> 13;
    } else if (magnitude >= 0x33000000) {
      // Subnormal in float16: the fraction counts units of 2^-24.
      const shift = 126 - (magnitude >>> 23);
      const fraction = (magnitude & 0x7fffff) | 0x800000;
      half = (fraction + (1 << (shift - 1)) - 1 + ((fraction >>> shift) & 1)) >>> shift;
    } else half = 0;
    out[i] = sign | half;
  }
  return out;
}

/** Widens bfloat16 bit patterns [n] to float32 [n]; exact. Returns a new array. */
export function bfloat16ToFloat32(bits: Uint16Array): Float32Array<ArrayBuffer> {
  const out = new Uint32Array(bits.length);
  for (let i = 0; i < out.length; i++) out[i] = (bits[i] as number) << 16;
  return new Float32Array(out.buffer);
}

/** Rounds float32 [n] to bfloat16 bit patterns [n]. Returns a new array. */
export function float32ToBfloat16(values: Float32Array): Uint16Array<ArrayBuffer> {
  const input = new Uint32Array(values.buffer, values.byteOffset, values.length);
  const out = new Uint16Array(input.length);
  for (let i = 0; i < out.length; i++) {
    const bits = input[i] as number;
    const upper = bits >>> 16;
    if ((bits & 0x7fffffff) > 0x7f800000) out[i] = (upper & 0x7f) === 0 ? upper | 0x40 : upper;
    else out[i] = (bits + 0x7fff + (upper & 1)) >>> 16;
  }
  return out;
}
