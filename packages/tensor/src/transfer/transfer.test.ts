import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { empty, tensor } from '../core/create.js';
import { encodeBytes } from '../core/encoding.js';
import { keep } from '../core/scope.js';
import type { Tensor } from '../core/tensor.js';
import { bfloat16ToFloat32, float16ToFloat32, float32ToBfloat16, float32ToFloat16 } from '../safetensors/half.js';
import { testDevice, uniformSource } from '../testing/index.js';
import { downloadTensor, type FloatType, uploadTensors } from './index.js';

const device = await testDevice();
const TYPES = ['float32', 'float16', 'bfloat16'] as const;
const SIZES = [1, 3, 63, 500, 4099];

let live: number;
beforeEach(() => {
  live = device.statistics().liveBuffers;
});
afterEach(() => expect(device.statistics().liveBuffers).toBe(live));

/** Finite values over many exponents that every type can hold, not all of them exactly. */
function valuesOf(count: number, seed = 3): Float32Array {
  const random = uniformSource(seed);
  return Float32Array.from({ length: count }, () => (random() - 0.5) * 2 ** (30 * random() - 15));
}

function bytesOf(values: Float32Array, dtype: FloatType): Uint8Array {
  return encodeBytes(values, dtype).subarray(0, values.length * (dtype === 'float32' ? 4 : 2));
}

/** What is left of values that are stored in a type. */
function stored(values: Float32Array, dtype: FloatType): Float32Array {
  if (dtype === 'float32') return values;
  return dtype === 'float16'
    ? float16ToFloat32(float32ToFloat16(values))
    : bfloat16ToFloat32(float32ToBfloat16(values));
}

const from = (bytes: Uint8Array) => async (target: Uint8Array, begin: number) => {
  target.set(bytes.subarray(begin, begin + target.length));
};

async function download(x: Tensor, dtype: FloatType, pieceBytes = 1024) {
  const parts: Uint8Array[] = [];
  const pieces = downloadTensor(x, dtype, { pieceBytes });
  for (;;) {
    const next = await pieces.next();
    if (next.done) return { bytes: Buffer.concat(parts), found: next.value };
    parts.push(next.value.slice());
  }
}

describe.each(TYPES)('from %s', (dtype) => {
  it.each(TYPES)('to %s, up and down again, all sizes at once and in many pieces', async (target) => {
    const given = SIZES.map((size) => valuesOf(size, size));
    const tensors = SIZES.map((size) => keep(empty(device, [size], { dtype: target })));
    let came = 0;
    const found = await uploadTensors(
      device,
      tensors.map((x, i) => ({ tensor: x, dtype, read: from(bytesOf(given[i]!, dtype)) })),
      {
        pieceBytes: 1024,
        pieces: 3,
        onBytes: (bytes) => {
          came += bytes;
        },
      },
    );
    expect(found).toEqual(SIZES.map(() => ({ notFinite: false, overflow: false })));
    expect(came).toBe(SIZES.reduce((sum, size) => sum + size * (dtype === 'float32' ? 4 : 2), 0));
    for (const [i, x] of tensors.entries()) {
      const values = stored(stored(given[i]!, dtype), target);
      expect(await x.read()).toEqual(values);
      const down = await download(x, dtype);
      expect(Buffer.compare(down.bytes, bytesOf(stored(values, target), dtype))).toBe(0);
      expect(down.found).toEqual({ notFinite: false, overflow: false });
      x.dispose();
    }
  });
});

describe('what a conversion meets', () => {
  it.each([
    ['float32', 'float16', 65504, false, false],
    ['float32', 'float16', 65519.996, false, false],
    ['float32', 'float16', 65520, false, true],
    ['bfloat16', 'float16', -65536, false, true],
    ['bfloat16', 'float16', Number.NaN, true, false],
    ['bfloat16', 'float32', Number.NEGATIVE_INFINITY, true, false],
    ['float16', 'float32', Number.POSITIVE_INFINITY, true, false],
    ['float16', 'float16', Number.NaN, true, false],
    ['float32', 'bfloat16', 3.4e38, false, true],
    ['float32', 'float32', 3.4e38, false, false],
  ] as const)('%s to %s: %d', async (dtype, target, value, notFinite, overflow) => {
    // In the last piece of the second of three, which alone is to be reported.
    const given = [valuesOf(700), valuesOf(1301), valuesOf(5)];
    given[1]![1300] = value;
    const tensors = given.map(({ length }) => keep(empty(device, [length], { dtype: target })));
    const found = await uploadTensors(
      device,
      tensors.map((x, i) => ({ tensor: x, dtype, read: from(bytesOf(given[i]!, dtype)) })),
      { pieceBytes: 1024 },
    );
    const clean = { notFinite: false, overflow: false };
    expect(found).toEqual([clean, { notFinite, overflow }, clean]);
    for (const x of tensors) x.dispose();
    using x = tensor(device, given[1]!, [1301], { dtype });
    expect((await download(x, target)).found).toEqual({ notFinite, overflow });
  });
});

it('a view is downloaded from where it begins', async () => {
  const values = valuesOf(200);
  using x = tensor(device, values);
  using part = x.view({ shape: [77], dtype: 'float32' }, 4 * 101);
  expect(Buffer.compare((await download(part, 'float32')).bytes, bytesOf(values.subarray(101, 178), 'float32'))).toBe(
    0,
  );
  await expect(
    uploadTensors(device, [{ tensor: part, dtype: 'float32', read: from(new Uint8Array(308)) }]),
  ).rejects.toThrow(/uploadTensors: a tensor \[77\] is a view into another/);
});

it('a failing read is thrown, once nothing reads any more', async () => {
  using x = empty(device, [5000]);
  let reading = 0;
  const read = async (_: Uint8Array, begin: number) => {
    reading++;
    await new Promise((resolve) => setTimeout(resolve, 5));
    reading--;
    if (begin === 4096) throw new Error('the disk is gone');
  };
  const work = uploadTensors(device, [{ tensor: x, dtype: 'float32', read }], { pieceBytes: 1024 });
  await expect(work).rejects.toThrow('the disk is gone');
  expect(reading).toBe(0);
});

it('memory on the host is a few pieces, whatever the size', async () => {
  using x = empty(device, [200_000]);
  let most = 0;
  let now = 0;
  const read = async (target: Uint8Array) => {
    now += target.length;
    most = Math.max(most, now);
    await new Promise((resolve) => setImmediate(resolve));
    now -= target.length;
  };
  await uploadTensors(device, [{ tensor: x, dtype: 'float32', read }], { pieceBytes: 8192, pieces: 3 });
  expect(most).toBe(3 * 8192);
});

it('a download that is given up frees what it holds', async () => {
  using x = tensor(device, valuesOf(3000));
  for await (const piece of downloadTensor(x, 'float16', { pieceBytes: 1024 })) {
    expect(piece.length).toBe(1024);
    break;
  }
});
