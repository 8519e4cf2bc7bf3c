import { describe, expect, it } from 'vitest';
import { tensor } from '../../core/create.js';
import type { DType } from '../../core/dtype.js';
import { valueAndGradients } from '../../core/gradients.js';
import { scope } from '../../core/scope.js';
import { bfloat16ToFloat32, float16ToFloat32, float32ToBfloat16, float32ToFloat16 } from '../../safetensors/half.js';
import { checkOp, testDevice, uniformSource } from '../../testing/index.js';
import { multiply } from '../pointwise/index.js';
import { sum } from '../reduce/index.js';
import { cast, castOp } from './index.js';

/** float32 values of every kind: all exponents, ties of both narrow formats, subnormals, infinities, NaN. */
function awkwardBits(): Float32Array {
  const random = uniformSource(11);
  const bits: number[] = [0, 0x80000000, 0x7f800000, 0xff800000, 0x7fc00000, 0x7f800001, 0xffc12345, 1, 0x007fffff];
  for (let exponent = 0; exponent < 255; exponent++) {
    for (const fraction of [
      0, 1, 0x0fff, 0x1000, 0x1001, 0x3000, 0x7fff, 0x8000, 0x8001, 0x18000, 0x7fefff, 0x7fffff,
    ]) {
      bits.push((exponent << 23) | fraction, (0x80000000 | (exponent << 23) | fraction) >>> 0);
    }
    bits.push((exponent << 23) | Math.floor(random() * 0x800000));
  }
  return new Float32Array(new Uint32Array(bits).buffer);
}

const sameBits = (a: Float32Array, b: Float32Array) => {
  expect(a.length).toBe(b.length);
  for (let i = 0; i < a.length; i++) {
    if (!Object.is(a[i], b[i])) throw new Error(`element ${i}: got ${a[i]}, expected ${b[i]}`);
  }
};

describe.each(['native', 'hardware'] as const)('cast (%s)', async (variant) => {
  const device = await testDevice(variant);
  const narrow = {
    float16: (values: Float32Array) => float16ToFloat32(float32ToFloat16(values)),
    bfloat16: (values: Float32Array) => bfloat16ToFloat32(float32ToBfloat16(values)),
  };

  it.each(['float16', 'bfloat16'] as const)('rounds float32 to %s bit for bit as the host does', async (dtype) => {
    const values = awkwardBits();
    // Four at a time, and word by word.
    expect(values.length % 4).toBe(0);
    for (const length of [values.length, values.length - 1]) {
      const given = values.subarray(0, length);
      const x = tensor(device, given);
      const y = cast(x, dtype);
      sameBits((await y.read()) as Float32Array, narrow[dtype](given));
      x.dispose();
      y.dispose();
    }
  });

  it.each(['float16', 'bfloat16'] as const)('widens every %s exactly', async (dtype) => {
    const bits = Uint16Array.from({ length: 65536 }, (_, i) => i);
    const values = dtype === 'float16' ? float16ToFloat32(bits) : bfloat16ToFloat32(bits);
    const x = tensor(device, values, [values.length], { dtype });
    const y = cast(x, 'float32');
    sameBits((await y.read()) as Float32Array, values);
    x.dispose();
    y.dispose();
  });

  it('goes between all dtypes as its reference says', async () => {
    const dtypes: DType[] = ['float32', 'float16', 'bfloat16', 'int32', 'uint32'];
    // Small multiples of 1/4 are exact in every float dtype, so that everything is exact.
    const values = (i: number) => ((i * 37) % 101) / 4;
    const whole = (i: number) => (i * 37) % 101;
    for (const from of dtypes) {
      for (const to of dtypes) {
        if (from === to) continue;
        const isInteger = from === 'int32' || from === 'uint32';
        for (const shape of [
          [3, 21],
          [12, 259],
        ]) {
          const inputs = [{ shape, dtype: from, values: isInteger ? whole : values }];
          const case_ = { inputs, attributes: { dtype: to, from } };
          // The gradients of a 16-bit float are rounded to it: 2⁻¹¹ and 2⁻⁸.
          await checkOp(device, castOp, case_, { forward: 0, gradient: 4e-3 });
        }
      }
    }
  });

  it('cuts towards zero and clamps on the way to integers', async () => {
    const x = tensor(device, [1.9, -1.9, 3e9, -3e9, 7e9]);
    const [signed, unsigned] = [cast(x, 'int32'), cast(x, 'uint32')];
    // The float32 next below 2³¹ is where a conversion by way of float32 may clamp to.
    const [large, larger] = [await signed.read(), await unsigned.read()];
    expect([...large.slice(0, 2), large[3]]).toEqual([1, -1, -(2 ** 31)]);
    expect(large[2]).toBeGreaterThanOrEqual(2 ** 31 - 128);
    expect([...larger.slice(0, 4)]).toEqual([1, 0, 3e9, 0]);
    expect(larger[4]).toBeGreaterThanOrEqual(2 ** 32 - 256);
    for (const t of [x, signed, unsigned]) t.dispose();
  });

  it('passes gradients back, and through a cast to the same dtype', async () => {
    const before = device.statistics().liveBuffers;
    const x = tensor(device, [1, 2, 3]);
    const { value, gradients } = valueAndGradients(() => {
      const same = cast(x, 'float32');
      return sum(multiply(same, cast(cast(x, 'bfloat16'), 'float32')));
    }, [x]);
    expect(await value.item()).toBe(14);
    expect([...(await gradients[0]!.read())]).toEqual([2, 4, 6]);
    for (const t of [x, value, ...gradients]) t?.dispose();
    expect(device.statistics().liveBuffers).toBe(before);
  });

  it('refuses what is no dtype', () => {
    scope(() => {
      const x = tensor(device, [1]);
      expect(() => cast(x, 'float8' as DType)).toThrow(/cast: expected a dtype/);
    });
  });
});
