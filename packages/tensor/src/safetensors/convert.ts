import { hostIsLittleEndian, swapBytes, toHostOrder, toLittleEndian } from './byte-order.js';
import { dtypeBytes, type SafetensorsDtype } from './dtypes.js';
import { SafetensorsError } from './errors.js';
import { bfloat16ToFloat32, float16ToFloat32, float32ToBfloat16, float32ToFloat16 } from './half.js';

/**
 * Little-endian tensor data as float32.
 *
 * F32, F16, BF16, BOOL (0 or 1) and integers up to 16 bits are exact; F64 and
 * wider integers round to the nearest float32, ties to even.
 *
 * @param bytes the data of n elements; its address needs no alignment
 * @returns float32 [n]. For F32 it may share the memory of `bytes`; every other dtype gives a new array
 * @throws SafetensorsError "data_length" if the length isn't a multiple of the element size, "dtype" for `F8_*`
 */
export function toFloat32(bytes: Uint8Array, dtype: SafetensorsDtype): Float32Array {
  const size = dtypeBytes(dtype);
  if (bytes.length % size !== 0) {
    throw new SafetensorsError('data_length', {
      problem: `toFloat32: the data isn't a whole number of ${dtype} elements`,
      expected: `a multiple of ${size} bytes`,
      got: `${bytes.length} bytes`,
    });
  }
  const { buffer, byteOffset, length } = toHostOrder(bytes, size);
  const count = length / size;
  switch (dtype) {
    case 'F32':
      return new Float32Array(buffer, byteOffset, count);
    case 'F16':
      return float16ToFloat32(new Uint16Array(buffer, byteOffset, count));
    case 'BF16':
      return bfloat16ToFloat32(new Uint16Array(buffer, byteOffset, count));
    case 'F64':
      return new Float32Array(new Float64Array(buffer, byteOffset, count));
    case 'I64':
    case 'U64':
      return wideIntegersToFloat32(new Uint32Array(buffer, byteOffset, 2 * count), dtype === 'I64');
    case 'I32':
      return new Float32Array(new Int32Array(buffer, byteOffset, count));
    case 'U32':
      return new Float32Array(new Uint32Array(buffer, byteOffset, count));
    case 'I16':
      return new Float32Array(new Int16Array(buffer, byteOffset, count));
    case 'U16':
      return new Float32Array(new Uint16Array(buffer, byteOffset, count));
    case 'I8':
      return new Float32Array(new Int8Array(buffer, byteOffset, count));
    case 'U8':
      return new Float32Array(bytes);
    case 'BOOL':
      return Float32Array.from(bytes, (value) => (value === 0 ? 0 : 1));
    default:
      throw noConversion('toFloat32', dtype);
  }
}

/**
 * Float32 values as little-endian tensor data.
 *
 * F16 and BF16 round to the nearest value, ties to even, and overflow to
 * infinity. Integer types and BOOL take only values they hold exactly.
 *
 * @param values float32 [n]
 * @returns n × element size bytes. For F32 it may share the memory of `values`; every other dtype gives a new array
 * @throws SafetensorsError "value" naming the first value an integer type can't hold, "dtype" for `F8_*`
 */
export function fromFloat32(values: Float32Array, dtype: SafetensorsDtype): Uint8Array {
  const size = dtypeBytes(dtype);
  switch (dtype) {
    case 'F32':
      return toLittleEndian(values, size);
    case 'F16':
      return toLittleEndian(float32ToFloat16(values), size);
    case 'BF16':
      return toLittleEndian(float32ToBfloat16(values), size);
    case 'F64':
      return toLittleEndian(new Float64Array(values), size);
    default:
      return integersFromFloat32(values, dtype, size);
  }
}

/** Smallest and largest value of each integer dtype, both exact as float64 or rounded outwards. */
const ranges: Partial<Record<SafetensorsDtype, readonly [low: number, high: number]>> = {
  BOOL: [0, 1],
  U8: [0, 2 ** 8 - 1],
  I8: [-(2 ** 7), 2 ** 7 - 1],
  U16: [0, 2 ** 16 - 1],
  I16: [-(2 ** 15), 2 ** 15 - 1],
  U32: [0, 2 ** 32 - 1],
  I32: [-(2 ** 31), 2 ** 31 - 1],
  // The float32 below 2^64 is 2^64 - 2^40, and likewise for 2^63.
  U64: [0, 2 ** 64 - 2 ** 40],
  I64: [-(2 ** 63), 2 ** 63 - 2 ** 39],
};

function integersFromFloat32(values: Float32Array, dtype: SafetensorsDtype, size: number): Uint8Array {
  const range = ranges[dtype];
  if (range === undefined) throw noConversion('fromFloat32', dtype);
  const [low, high] = range;
  for (let i = 0; i < values.length; i++) {
    const value = values[i] as number;
    if (value >= low && value <= high && Number.isInteger(value)) continue;
    throw new SafetensorsError('value', {
      problem: `fromFloat32: element ${i} has no exact ${dtype} value`,
      expected: `an integer from ${low} to ${high}`,
      got: String(value),
      fix: 'Round and clamp first, or write a floating-point dtype',
    });
  }
  const out = new Uint8Array(values.length * size);
  const { buffer } = out;
  if (dtype === 'I8') new Int8Array(buffer).set(values);
  else if (dtype === 'I16') new Int16Array(buffer).set(values);
  else if (dtype === 'U16') new Uint16Array(buffer).set(values);
  else if (dtype === 'I32') new Int32Array(buffer).set(values);
  else if (dtype === 'U32') new Uint32Array(buffer).set(values);
  else if (dtype === 'I64') new BigInt64Array(buffer).set(Array.from(values, BigInt));
  else if (dtype === 'U64') new BigUint64Array(buffer).set(Array.from(values, BigInt));
  else out.set(values);
  return hostIsLittleEndian || size === 1 ? out : swapBytes(out, size);
}

/** 64-bit integers as pairs of 32-bit words. Direct up to 2^53; beyond, a sticky bit avoids rounding twice. */
function wideIntegersToFloat32(words: Uint32Array, signed: boolean): Float32Array {
  const out = new Float32Array(words.length / 2);
  const [lowWord, highWord] = hostIsLittleEndian ? [0, 1] : [1, 0];
  for (let i = 0; i < out.length; i++) {
    const low = words[2 * i + lowWord] as number;
    const unsignedHigh = words[2 * i + highWord] as number;
    const high = signed ? unsignedHigh | 0 : unsignedHigh;
    if (high >= -0x200000 && high < 0x200000) {
      out[i] = high * 2 ** 32 + low;
      continue;
    }
    // Drop 11 bits: 53 remain, exact as float64. If any dropped bit was set, the lowest kept bit remembers it.
    const kept = high * 2 ** 21 + (low >>> 11);
    const sticky = (low & 0x7ff) !== 0 && kept % 2 === 0 ? 1 : 0;
    out[i] = (kept + sticky) * 2048;
  }
  return out;
}

function noConversion(operation: string, dtype: SafetensorsDtype): SafetensorsError {
  return new SafetensorsError('dtype', {
    problem: `${operation}: there is no conversion for dtype ${dtype}`,
    fix: 'Read or write its bytes as they are',
  });
}
