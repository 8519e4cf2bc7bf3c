import { describe, expect, it } from 'vitest';
import { dtypeBytes, dtypes } from './dtypes.js';
import { compareCodePoints } from './layout.js';
import { openSafetensors } from './open.js';
import type { TensorInput } from './tensor-input.js';
import { failure, rawFile } from './test-files.js';
import { serializeSafetensors } from './writer.js';

const text = (bytes: Uint8Array): string => new TextDecoder('latin1').decode(bytes);

describe('serializeSafetensors', () => {
  it('writes what the reference library writes', async () => {
    const bytes = await serializeSafetensors([
      { name: 'attn.0', dtype: 'F32', shape: [1, 2, 3], data: Float32Array.of(0, 1, 2, 3, 4, 5) },
    ]);
    expect(text(bytes.subarray(0, 72))).toBe(
      '@\0\0\0\0\0\0\0{"attn.0":{"dtype":"F32","shape":[1,2,3],"data_offsets":[0,24]}}',
    );
    expect([...bytes.subarray(72, 80)]).toEqual([0, 0, 0, 0, 0, 0, 128, 63]);
    const padded = await serializeSafetensors([
      { name: 'attn0', dtype: 'F32', shape: [1, 1, 2, 3], data: new Float32Array(6) },
    ]);
    expect(text(padded.subarray(0, 80))).toBe(
      'H\0\0\0\0\0\0\0{"attn0":{"dtype":"F32","shape":[1,1,2,3],"data_offsets":[0,24]}}       ',
    );
    expect(text(await serializeSafetensors([]))).toBe('\b\0\0\0\0\0\0\0{}      ');
  });

  it('sorts by dtype, widest first, then by name in bytes', async () => {
    const tensors = [...dtypes].reverse().flatMap((dtype) =>
      ['10', '\u{1f600}', '\uffee', '2', 'a'].map((name) => ({
        name: `${name}${dtype}`,
        dtype,
        shape: [1],
        data: new Uint8Array(dtypeBytes(dtype)),
      })),
    );
    const file = await openSafetensors(await serializeSafetensors([...tensors].reverse()));
    const expected = [
      'U64',
      'I64',
      'F64',
      'F32',
      'U32',
      'I32',
      'BF16',
      'F16',
      'U16',
      'I16',
      'F8_E8M0',
      'F8_E4M3',
      'F8_E5M2',
      'I8',
      'U8',
      'BOOL',
    ];
    expect(file.names).toEqual(
      expected.flatMap((dtype) => ['10', '2', 'a', '\uffee', '\u{1f600}'].map((name) => name + dtype)),
    );
    const given = await openSafetensors(await serializeSafetensors(tensors, { sort: 'given' }));
    expect(given.names).toEqual(tensors.map((tensor) => tensor.name));
  });

  it('compares names as their UTF-8 bytes compare', () => {
    const names = ['', 'a', 'ab', 'b', '\uffff', '\ue000', '\u{10000}', '\u{10ffff}', '\u{10000}a', 'é', '\ud7ff'];
    for (const a of names) {
      for (const b of names)
        expect(Math.sign(compareCodePoints(a, b))).toBe(Buffer.compare(Buffer.from(a), Buffer.from(b)));
    }
  });

  it('rewrites files of the reference library byte for byte', async () => {
    const header =
      '{"__metadata__":{"format":"pt","2":"ü\\"\\\\\\n\\u0001\u2028"},"10":{"dtype":"I64","shape":[],"data_offsets":[0,8]},' +
      '"2":{"dtype":"F32","shape":[2,1],"data_offsets":[8,16]},"__proto__":{"dtype":"BF16","shape":[3],"data_offsets":[16,22]},' +
      '"é\\t/":{"dtype":"BF16","shape":[0],"data_offsets":[22,22]},"z":{"dtype":"BOOL","shape":[1,1],"data_offsets":[22,23]}}';
    const original = rawFile(
      header,
      Uint8Array.from({ length: 23 }, (_, i) => 255 - i),
    );
    const file = await openSafetensors(original);
    for (const sort of ['reference', 'given'] as const) {
      const copies = file.names.map((name) => ({
        ...file.info(name),
        data: () => file.stream(name, { chunkBytes: 8 }),
      }));
      const copy = await serializeSafetensors(copies, { metadata: file.metadata, sort });
      expect(Buffer.from(copy)).toEqual(Buffer.from(original));
    }
  });

  it('takes bytes, floats, integers, functions and streams', async () => {
    const ints = Int32Array.of(-1, 2 ** 31 - 1);
    const file = await openSafetensors(
      await serializeSafetensors([
        { name: 'bytes', dtype: 'F16', shape: [1], data: Uint8Array.of(0, 0x3c) },
        { name: 'half', dtype: 'F16', shape: [2], data: Float32Array.of(1, 65520) },
        { name: 'i32', dtype: 'I32', shape: [2], data: ints },
        { name: 'i64', dtype: 'I64', shape: [2], data: async () => ints },
        { name: 'scalar', dtype: 'BF16', shape: [], data: () => Float32Array.of(3) },
        { name: 'mask', dtype: 'BOOL', shape: [2], data: Float32Array.of(0, 1) },
        { name: 'long', dtype: 'F16', shape: [2 ** 21 + 3], data: new Float32Array(2 ** 21 + 3).fill(2) },
      ]),
    );
    expect([...(await file.readFloat32('bytes'))]).toEqual([1]);
    expect([...(await file.readFloat32('half'))]).toEqual([1, Infinity]);
    expect([...(await file.readFloat32('i32'))]).toEqual([-1, 2 ** 31]);
    expect([...new BigInt64Array((await file.readBytes('i64')).slice().buffer)]).toEqual([-1n, 2n ** 31n - 1n]);
    expect([...(await file.readFloat32('scalar'))]).toEqual([3]);
    expect([...(await file.readBytes('mask'))]).toEqual([0, 1]);
    expect((await file.readFloat32('long')).every((value) => value === 2)).toBe(true);
  });

  it('refuses what it could not read back, and says which tensor', async () => {
    const tensor = { name: 'w', dtype: 'F32', shape: [2], data: new Float32Array(2) } as const;
    const chunks = (...sizes: number[]) =>
      async function* () {
        for (const size of sizes) yield new Uint8Array(size);
      };
    const table = [
      ['duplicate', [tensor, tensor]],
      ['argument', [{ ...tensor, name: '__metadata__' }]],
      ['argument', [{ ...tensor, name: '\ud800' }]],
      ['argument', [{ ...tensor, data: new Float64Array(2) as unknown as Float32Array }]],
      ['shape', [{ ...tensor, shape: [-1] }]],
      ['shape', [{ ...tensor, shape: [2 ** 30, 2 ** 30] }]],
      ['dtype', [{ ...tensor, dtype: 'F31' as 'F32' }]],
      ['dtype', [{ ...tensor, data: new Int32Array(2) }]],
      ['dtype', [{ ...tensor, dtype: 'F8_E4M3' }]],
      ['data_length', [{ ...tensor, data: new Float32Array(3) }]],
      ['data_length', [{ ...tensor, data: new Uint8Array(7) }]],
      ['data_length', [{ ...tensor, data: () => new Float32Array(1) }]],
      ['data_length', [{ ...tensor, data: chunks(4, 3) }]],
      ['data_length', [{ ...tensor, data: chunks(4, 5) }]],
      ['value', [{ ...tensor, dtype: 'U8', data: Float32Array.of(1, 300) }]],
    ] as const;
    for (const [code, tensors] of table) {
      const error = await failure(() => serializeSafetensors(tensors as unknown as TensorInput[]), code);
      if (code !== 'argument' && tensors[0]?.dtype !== ('F31' as 'F32')) expect(error.tensor).toBe('w');
    }
    await failure(() => serializeSafetensors([tensor], { metadata: { a: 1 as unknown as string } }), 'argument');
    await failure(() => serializeSafetensors([], { metadata: { a: 'x'.repeat(100_000_001) } }), 'header_too_large');
  });
});
