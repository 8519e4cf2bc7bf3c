import { describe, expect, it } from 'vitest';
import { swapBytes, toHostOrder } from './byte-order.js';
import { fromFloat32, toFloat32 } from './convert.js';
import { dtypes, type SafetensorsDtype } from './dtypes.js';
import { failure } from './test-files.js';

const bytesOf = (array: ArrayBufferView): Uint8Array =>
  new Uint8Array(array.buffer, array.byteOffset, array.byteLength);

describe('toFloat32', () => {
  const cases: [SafetensorsDtype, ArrayBufferView, number[]][] = [
    ['F64', Float64Array.of(1.5, 0.1, 1e300, -0), [1.5, Math.fround(0.1), Infinity, -0]],
    ['F32', Float32Array.of(1.5, -0, NaN), [1.5, -0, NaN]],
    ['F16', Uint16Array.of(0x3c00, 0xc000, 1), [1, -2, 2 ** -24]],
    ['BF16', Uint16Array.of(0x3f80, 0xc000, 1), [1, -2, 2 ** -133]],
    ['I64', BigInt64Array.of(-1n, 3n, -(2n ** 63n), 2n ** 40n), [-1, 3, -(2 ** 63), 2 ** 40]],
    ['U64', BigUint64Array.of(7n, 2n ** 64n - 1n), [7, 2 ** 64]],
    ['I32', Int32Array.of(-5, 2 ** 31 - 1), [-5, 2 ** 31]],
    ['U32', Uint32Array.of(2 ** 32 - 1), [2 ** 32]],
    ['I16', Int16Array.of(-32768, 12), [-32768, 12]],
    ['U16', Uint16Array.of(65535), [65535]],
    ['I8', Int8Array.of(-128, 127), [-128, 127]],
    ['U8', Uint8Array.of(255, 0), [255, 0]],
    ['BOOL', Uint8Array.of(0, 1, 2), [0, 1, 1]],
  ];
  it.each(cases)('%s, aligned or not', (dtype, array, expected) => {
    const bytes = bytesOf(array);
    const shifted = new Uint8Array(bytes.length + 1).subarray(1);
    shifted.set(bytes);
    expect([...toFloat32(bytes, dtype)]).toEqual(expected);
    expect([...toFloat32(shifted, dtype)]).toEqual(expected);
  });

  it('rounds 64-bit integers once, to the nearest float32', () => {
    // Each is just above a tie; rounding to float64 first would land on the tie and go to even, downwards.
    const ties = [2n ** 60n + 2n ** 36n + 1n, 2n ** 62n + 2n ** 38n + 1n];
    const expected = [2 ** 60 + 2 ** 37, 2 ** 62 + 2 ** 39];
    expect([...toFloat32(bytesOf(BigInt64Array.from(ties)), 'I64')]).toEqual(expected);
    expect([...toFloat32(bytesOf(BigUint64Array.from(ties)), 'U64')]).toEqual(expected);
    expect([...toFloat32(bytesOf(BigInt64Array.from(ties, (v) => -v)), 'I64')]).toEqual(expected.map((v) => -v));
  });

  it('refuses broken lengths and types without a conversion', async () => {
    expect((await failure(() => toFloat32(new Uint8Array(3), 'F16'), 'data_length')).message).toContain('3 bytes');
    await failure(() => toFloat32(new Uint8Array(3), 'F8_E4M3'), 'dtype');
    await failure(() => toFloat32(new Uint8Array(3), 'toString' as SafetensorsDtype), 'dtype');
  });
});

describe('fromFloat32', () => {
  it.each(dtypes.filter((dtype) => !dtype.startsWith('F8')))('%s comes back as it went', (dtype) => {
    const values = Float32Array.of(0, 1, 1, 0);
    expect([...toFloat32(fromFloat32(values, dtype), dtype)]).toEqual([...values]);
  });

  it('holds the extremes of the integer types', () => {
    expect([...toFloat32(fromFloat32(Float32Array.of(-128, 127), 'I8'), 'I8')]).toEqual([-128, 127]);
    expect([...toFloat32(fromFloat32(Float32Array.of(-(2 ** 63)), 'I64'), 'I64')]).toEqual([-(2 ** 63)]);
    expect([...toFloat32(fromFloat32(Float32Array.of(2 ** 64 - 2 ** 40), 'U64'), 'U64')]).toEqual([2 ** 64 - 2 ** 40]);
  });

  it.each([
    ['U8', 256],
    ['I8', -129],
    ['I32', 0.5],
    ['I32', 2 ** 31],
    ['U32', -1],
    ['I64', 2 ** 63],
    ['U64', NaN],
    ['BOOL', 2],
  ] as const)('%s refuses %d and says which element', async (dtype, value) => {
    const error = await failure(() => fromFloat32(Float32Array.of(0, value), dtype), 'value');
    expect(error.message).toContain('element 1');
  });
});

describe('byte order', () => {
  it('swaps each element, in a copy', () => {
    const bytes = Uint8Array.of(1, 2, 3, 4);
    expect([...swapBytes(bytes, 2)]).toEqual([2, 1, 4, 3]);
    expect([...swapBytes(bytes, 4)]).toEqual([4, 3, 2, 1]);
    expect([...bytes]).toEqual([1, 2, 3, 4]);
  });

  it('copies only what no typed array could view', () => {
    const bytes = new Uint8Array(16);
    expect(toHostOrder(bytes, 8)).toBe(bytes);
    expect(toHostOrder(bytes.subarray(4, 12), 8).byteOffset % 8).toBe(0);
    expect(toHostOrder(bytes.subarray(4, 12), 4).buffer).toBe(bytes.buffer);
  });
});
