import { describe, expect, it } from 'vitest';
import { SafetensorsError, type SafetensorsErrorCode } from './errors.js';
import { parseHeader, parseHeaderLength } from './format.js';
import { failure, rawFile } from './test-files.js';

const entry = (begin: unknown, end: unknown, shape: unknown = [1], dtype: unknown = 'F32'): string =>
  `{"dtype":${JSON.stringify(dtype)},"shape":${JSON.stringify(shape)},"data_offsets":[${begin},${end}]}`;

describe('parseHeader', () => {
  it('reads tensors, metadata and where the data starts', () => {
    const bytes = rawFile(
      `{"__metadata__":{"format":"pt"},"b":${entry(4, 8)},"a":${entry(0, 4)},"s":${entry(8, 10, [], 'BF16')},"e":${entry(4, 4, [0, 7])}}`,
      10,
    );
    const header = parseHeader(bytes);
    expect([...header.tensors.keys()]).toEqual(['b', 'a', 's', 'e']);
    expect(header.tensors.get('s')).toEqual({ dtype: 'BF16', shape: [], begin: 8, end: 10 });
    expect(header.metadata.get('format')).toBe('pt');
    expect(header.dataBytes).toBe(10);
    expect(header.dataStart).toBe(bytes.length - 10);
  });

  it('needs only the bytes up to the end of the header', () => {
    const bytes = rawFile(`{"a":${entry(0, 4e9, [1e9])}}`);
    expect(parseHeader(bytes, bytes.length + 4e9).tensors.get('a')?.end).toBe(4e9);
    expect(parseHeader(rawFile('{}')).tensors.size).toBe(0);
  });

  it('accepts members it does not know, as the reference library does', () => {
    const bytes = rawFile(`{"a":{"extra":[1],"dtype":"F32","shape":[1],"data_offsets":[0,4]}}`, 4);
    expect(parseHeader(bytes).tensors.has('a')).toBe(true);
  });

  it('is safe with names of Object.prototype', () => {
    const { tensors } = parseHeader(rawFile(`{"__proto__":${entry(0, 4)},"constructor":${entry(4, 8)}}`, 8));
    expect([...tensors.keys()]).toEqual(['__proto__', 'constructor']);
    expect(tensors.has('toString')).toBe(false);
  });

  const huge = '9223372036854775808';
  const table: [string, SafetensorsErrorCode, string | Uint8Array, number][] = [
    ['an array', 'invalid_header', '[]', 0],
    ['a space before the object', 'invalid_header', ' {}', 0],
    ['an empty header', 'invalid_header', '', 0],
    ['a byte order mark', 'invalid_header', '\ufeff{}', 0],
    ['broken JSON', 'invalid_header', '{"a":', 0],
    ['text after the object', 'invalid_header', '{}x', 0],
    ['a NUL after the object', 'invalid_header', '{}\0', 0],
    ['invalid UTF-8', 'invalid_header', Uint8Array.of(0x7b, 0x22, 0xff, 0x22, 0x7d), 0],
    ['an entry that is null', 'invalid_header', '{"a":null}', 0],
    ['an entry that is an array', 'invalid_header', '{"a":[]}', 0],
    ['metadata that are a string', 'invalid_header', '{"__metadata__":"x"}', 0],
    ['a number among the metadata', 'invalid_header', '{"__metadata__":{"a":1}}', 0],
    ['two tensors of one name', 'duplicate', `{"a":${entry(0, 4)},"a":${entry(0, 4)}}`, 4],
    ['two dtypes in one entry', 'duplicate', '{"a":{"dtype":"F32","dtype":"F16","shape":[],"data_offsets":[0,4]}}', 4],
    ['an unknown dtype', 'dtype', `{"a":${entry(0, 4, [1], 'F33')}}`, 4],
    ['a lower-case dtype', 'dtype', `{"a":${entry(0, 4, [1], 'f32')}}`, 4],
    ['a dtype that is a property of objects', 'dtype', `{"a":${entry(0, 4, [1], 'toString')}}`, 4],
    ['a dtype that is a number', 'dtype', `{"a":${entry(0, 4, [1], 1)}}`, 4],
    ['no dtype', 'dtype', '{"a":{"shape":[1],"data_offsets":[0,4]}}', 4],
    ['no shape', 'shape', '{"a":{"dtype":"F32","data_offsets":[0,4]}}', 4],
    ['a shape that is a number', 'shape', `{"a":${entry(0, 4, 1)}}`, 4],
    ['a negative size', 'shape', `{"a":${entry(0, 4, [-1])}}`, 4],
    ['two negative sizes', 'shape', `{"a":${entry(0, 4, [-1, -1])}}`, 4],
    ['a fractional size', 'shape', `{"a":${entry(0, 4, [0.5, 2])}}`, 4],
    ['a size written 1.0', 'shape', '{"a":{"dtype":"F32","shape":[1.0],"data_offsets":[0,4]}}', 4],
    ['a size that is a string', 'shape', `{"a":${entry(0, 4, ['1'])}}`, 4],
    ['a size that is null', 'shape', `{"a":${entry(0, 4, [null])}}`, 4],
    ['a size of 2^63', 'shape', `{"a":{"dtype":"U8","shape":[${huge}],"data_offsets":[0,4]}}`, 4],
    ['a product that wraps 2^64 to 1', 'shape', `{"a":${entry(0, 4, [4294967297, 4294967295, 1])}}`, 4],
    ['a product of 2^64', 'shape', `{"a":${entry(0, 0, [4294967296, 4294967296])}}`, 0],
    ['bytes past 2^53', 'shape', `{"a":${entry(0, 0, [2 ** 52])}}`, 0],
    ['no offsets', 'bad_offsets', '{"a":{"dtype":"F32","shape":[1]}}', 4],
    ['one offset', 'bad_offsets', '{"a":{"dtype":"F32","shape":[1],"data_offsets":[0]}}', 4],
    ['three offsets', 'bad_offsets', '{"a":{"dtype":"F32","shape":[1],"data_offsets":[0,4,8]}}', 4],
    ['a negative offset', 'bad_offsets', `{"a":${entry(-4, 0)}}`, 4],
    ['offsets of NaN', 'invalid_header', `{"a":${entry('NaN', 4)}}`, 4],
    ['a fractional offset', 'bad_offsets', `{"a":${entry(0.5, 4.5)}}`, 8],
    ['reversed offsets', 'bad_offsets', `{"a":${entry(4, 0)}}`, 4],
    ['an offset of 2^63', 'bad_offsets', `{"a":${entry(0, huge)}}`, 4],
    ['too few bytes for the shape', 'bad_offsets', `{"a":${entry(0, 4, [2])}}`, 4],
    ['too many bytes for the shape', 'bad_offsets', `{"a":${entry(0, 8, [1])}}`, 8],
    ['bytes for a shape with a zero', 'bad_offsets', `{"a":${entry(0, 4, [0])}}`, 4],
    ['offsets far outside', 'bad_offsets', `{"a":${entry(1000, 1004)}}`, 4],
    ['two tensors on the same bytes', 'overlap', `{"a":${entry(0, 4)},"b":${entry(0, 4)}}`, 4],
    ['a tensor half over another', 'overlap', `{"a":${entry(0, 4)},"b":${entry(2, 6)}}`, 6],
    ['an empty tensor inside another', 'overlap', `{"a":${entry(0, 4)},"b":${entry(2, 2, [0])}}`, 4],
    ['unclaimed bytes at the start', 'hole', `{"a":${entry(4, 8)}}`, 8],
    ['unclaimed bytes in the middle', 'hole', `{"a":${entry(0, 4)},"b":${entry(8, 12)}}`, 12],
    ['unclaimed bytes at the end', 'hole', `{"a":${entry(0, 4)}}`, 5],
    ['bytes and no tensor', 'hole', '{}', 1],
    ['data cut off', 'truncated', `{"a":${entry(0, 4)}}`, 3],
    ['terabytes declared and none there', 'truncated', `{"a":${entry(0, 4e15, [1e15])}}`, 0],
  ];
  it.each(table)('refuses %s (%s)', async (_, code, header, data) => {
    const error = await failure(() => parseHeader(rawFile(header, data), undefined, { file: 'x.safetensors' }), code);
    expect(error.file).toBe('x.safetensors');
    expect(error.message).toMatch(/^safetensors: x\.safetensors: /);
    expect(error.message.length).toBeLessThan(1500);
  });

  it('names the tensor, what was expected, what came and what to do', async () => {
    const error = await failure(() => parseHeader(rawFile(`{"w":${entry(0, 8, [2])}}`, 7), undefined, { file: 'm' }));
    expect(error).toMatchObject({ code: 'truncated', tensor: 'w', expected: '8 bytes of data', got: '7 bytes' });
    expect(error.message).toBe(
      'safetensors: m: tensor "w": the file ends before its last tensor does (expected 8 bytes of data, got 7 bytes). ' +
        'The download or copy is incomplete; fetch the file again.',
    );
  });

  it('keeps hostile names short and on one line in messages', async () => {
    const name = `\\n${'x'.repeat(10_000)}`;
    const error = await failure(() => parseHeader(rawFile(`{"${name}":1}`)));
    expect(error.message.length).toBeLessThan(400);
    expect(error.message).not.toContain('\n');
  });
});

describe('parseHeaderLength', () => {
  const lengthBytes = (value: bigint): Uint8Array => new Uint8Array(BigUint64Array.of(value).buffer);

  it.each<[bigint, number, SafetensorsErrorCode]>([
    [2n ** 64n - 1n, 1000, 'header_too_large'],
    [2n ** 63n, 1000, 'header_too_large'],
    [2n ** 32n, 2 ** 40, 'header_too_large'],
    [100_000_001n, 2 ** 40, 'header_too_large'],
    [100_000_000n, 1000, 'truncated'],
    [993n, 1000, 'truncated'],
    [0n, 7, 'truncated'],
    [0n, NaN, 'argument'],
    [0n, -1, 'argument'],
  ])('refuses %d in a file of %d bytes (%s)', async (length, fileSize, code) => {
    await failure(() => parseHeaderLength(lengthBytes(length), fileSize), code);
  });

  it('accepts up to the limit, which options can lower but not raise', async () => {
    expect(parseHeaderLength(lengthBytes(992n), 1000)).toBe(992);
    expect(parseHeaderLength(lengthBytes(100_000_000n), 2 ** 40)).toBe(100_000_000);
    await failure(() => parseHeaderLength(lengthBytes(100n), 1000, { maxHeaderBytes: 99 }), 'header_too_large');
    await failure(
      () => parseHeaderLength(lengthBytes(2n ** 40n), 2 ** 50, { maxHeaderBytes: 2 ** 50 }),
      'header_too_large',
    );
    await failure(() => parseHeaderLength(new Uint8Array(7), 1000), 'truncated');
  });
});

describe('SafetensorsError', () => {
  it('recognises errors of another copy of the module, and nothing else', () => {
    const brand = Symbol.for('@zebra/tensor/SafetensorsError');
    expect(SafetensorsError.is(new SafetensorsError('io', { problem: 'x' }))).toBe(true);
    expect(SafetensorsError.is(Object.assign(new Error('x'), { [brand]: true }))).toBe(true);
    for (const other of [new Error('x'), null, undefined, 'x', {}]) expect(SafetensorsError.is(other)).toBe(false);
  });
});
