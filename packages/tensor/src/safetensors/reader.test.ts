import { execFileSync } from 'node:child_process';
import { mkdir, truncate, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { pathToFileURL } from 'node:url';
import { describe, expect, it } from 'vitest';
import { nodeFileSource } from './node-file.js';
import { openSafetensors } from './open.js';
import { SafetensorsFile, type TensorReader } from './reader.js';
import { type ByteSource, blobSource, memorySource } from './source.js';
import { failure, rawFile, withFolder } from './test-files.js';
import { serializeSafetensors } from './writer.js';

const values = Float32Array.from({ length: 1000 }, (_, i) => i - 500);
const content = (): Promise<Uint8Array<ArrayBuffer>> =>
  serializeSafetensors(
    [
      { name: 'w', dtype: 'F32', shape: [10, 100], data: values },
      { name: 'h', dtype: 'BF16', shape: [3], data: Float32Array.of(1, -2, 0.5) },
      { name: 'none', dtype: 'F16', shape: [0, 4], data: new Uint8Array(0) },
      { name: 'f8', dtype: 'F8_E4M3', shape: [2], data: Uint8Array.of(1, 2) },
    ],
    { metadata: { format: 'pt' } },
  );

async function collect(reader: TensorReader, name: string, chunkBytes?: number): Promise<Uint8Array[]> {
  const chunks: Uint8Array[] = [];
  for await (const chunk of reader.stream(name, chunkBytes === undefined ? {} : { chunkBytes })) chunks.push(chunk);
  return chunks;
}

describe('openSafetensors', () => {
  it('reads the same from bytes, an ArrayBuffer, a Blob, a path, a URL and a source', async () => {
    await withFolder(async (folder) => {
      const bytes = await content();
      const path = join(folder, 'a.safetensors');
      await writeFile(path, bytes);
      for (const input of [
        bytes,
        bytes.buffer,
        new Blob([bytes]),
        path,
        pathToFileURL(path),
        blobSource(new Blob([bytes])),
      ]) {
        const file = await openSafetensors(input);
        expect(file.names).toEqual(['w', 'h', 'none', 'f8']);
        expect([...file.metadata]).toEqual([['format', 'pt']]);
        expect(file.info('w')).toMatchObject({ name: 'w', dtype: 'F32', shape: [10, 100], byteLength: 4000 });
        const target = new Uint8Array(12);
        await file.readInto('w', target, 400);
        expect([...new Float32Array(target.buffer)]).toEqual([...values.subarray(100, 103)]);
        await failure(() => file.readInto('w', target, 3992), 'argument');
        await file.readInto('none', target.subarray(0, 0));
        expect(await file.readFloat32('w')).toEqual(values);
        expect([...(await file.readFloat32('h'))]).toEqual([1, -2, 0.5]);
        expect((await file.readFloat32('none')).length).toBe(0);
        expect([...(await file.readBytes('f8'))]).toEqual([1, 2]);
        await file.close();
      }
    });
  });

  it('says what it can open', async () => {
    await failure(() => openSafetensors(7 as unknown as string), 'argument');
    expect((await failure(() => openSafetensors(new URL('https://example.com/a')), 'argument')).got).toBe('https:');
    expect((await failure(() => openSafetensors('/nowhere/a.safetensors'), 'not_found')).file).toBe(
      '/nowhere/a.safetensors',
    );
  });

  it('refuses folders and pipes without waiting for them', async () => {
    await withFolder(async (folder) => {
      await mkdir(join(folder, 'sub'));
      await failure(() => openSafetensors(join(folder, 'sub')), 'io');
      if (process.platform === 'win32') return;
      execFileSync('/bin/sh', ['-c', 'mkfifo "$0"', join(folder, 'pipe')]);
      await failure(() => openSafetensors(join(folder, 'pipe')), 'io');
    });
  });

  it('closes the source when the header is bad', async () => {
    let closed = 0;
    const close = async (): Promise<void> => void closed++;
    await failure(() => SafetensorsFile.open({ ...memorySource(rawFile('[]')), close }), 'invalid_header');
    expect(closed).toBe(1);
  });
});

describe('SafetensorsFile', () => {
  it('streams in chunks of whole elements, owns nothing in between', async () => {
    const file = await openSafetensors(await content());
    const chunks = await collect(file, 'w', 1003);
    expect(chunks.map((chunk) => chunk.length)).toEqual([1000, 1000, 1000, 1000]);
    expect(Buffer.concat(chunks)).toEqual(Buffer.from(values.buffer));
    expect((await collect(file, 'w')).length).toBe(1);
    expect(await collect(file, 'none')).toEqual([]);
    await failure(() => collect(file, 'w', 4), 'argument');
    await failure(() => collect(file, 'w', NaN), 'argument');
  });

  it('reads parts of a tensor', async () => {
    const file = await openSafetensors(await content());
    const row = await file.readBytes('w', { begin: 400, end: 800 });
    expect(Buffer.from(row)).toEqual(Buffer.from(values.buffer, 400, 400));
    for (const range of [{ begin: -1 }, { end: 4001 }, { begin: 5, end: 4 }, { begin: 0.5 }]) {
      await failure(() => file.readBytes('w', range), 'argument');
    }
  });

  it('gives floats that their caller owns, also over memory', async () => {
    const file = await openSafetensors(await content());
    (await file.readFloat32('w')).fill(0);
    expect(await file.readFloat32('w')).toEqual(values);
    // Bytes are views, by contrast: weights in memory aren't doubled.
    expect((await file.readBytes('w')).buffer).toBe((await file.readBytes('h')).buffer);
  });

  it('reads data at odd addresses', async () => {
    const header =
      '{"a":{"dtype":"U8","shape":[1],"data_offsets":[0,1]},"b":{"dtype":"F32","shape":[2],"data_offsets":[1,9]}}';
    const data = new Uint8Array(9);
    data.set(new Uint8Array(Float32Array.of(1.5, -3).buffer), 1);
    const file = await openSafetensors(rawFile(header, data));
    expect([...(await file.readFloat32('b'))]).toEqual([1.5, -3]);
  });

  it('names the tensors there are when one is missing', async () => {
    const bytes = rawFile('{"model.layers.0.q.weight":{"dtype":"F32","shape":[],"data_offsets":[0,4]}}', 4);
    const file = await openSafetensors(bytes, { file: 'm.safetensors' });
    const error = await failure(() => file.info('model.layer.0.q.weight'), 'missing_tensor');
    expect(error.message).toContain('"model.layers.0.q.weight"');
    expect(error).toMatchObject({ file: 'm.safetensors', tensor: 'model.layer.0.q.weight' });
    await failure(() => file.readBytes('__proto__'), 'missing_tensor');
    await failure(() => file.readFloat32('constructor'), 'missing_tensor');
    expect(file.has('toString')).toBe(false);
  });

  it('names the tensor when a type has no conversion', async () => {
    const file = await openSafetensors(await content());
    expect((await failure(() => file.readFloat32('f8'), 'dtype')).tensor).toBe('f8');
  });

  it('says so when it was closed', async () => {
    await withFolder(async (folder) => {
      const path = join(folder, 'a.safetensors');
      await writeFile(path, await content());
      const file = await openSafetensors(path);
      await file.close();
      await file.close();
      await failure(() => file.readBytes('w'), 'closed');
      await failure(() => collect(file, 'w'), 'closed');
    });
  });

  it('notices a file that was cut short after opening', async () => {
    await withFolder(async (folder) => {
      const path = join(folder, 'a.safetensors');
      const bytes = await content();
      await writeFile(path, bytes);
      const file = await openSafetensors(path);
      await truncate(path, bytes.length - 3000);
      expect((await failure(() => file.readBytes('w'), 'truncated')).tensor).toBe('w');
      await file.close();
    });
  });

  it('refuses every cut of a file', async () => {
    const bytes = await content();
    for (let size = 0; size < bytes.length; size += size < 500 ? 1 : 97) {
      await failure(() => openSafetensors(bytes.slice(0, size)), 'truncated');
    }
  });

  it('says that a tensor past the engine’s largest array is to be streamed', async () => {
    const size = 2 ** 50;
    const header = rawFile(`{"big":{"dtype":"U8","shape":[${size}],"data_offsets":[0,${size}]}}`);
    const source: ByteSource = {
      size: header.length + size,
      read: async (begin, end) => (begin < header.length ? header.slice(begin, end) : new Uint8Array(end - begin)),
    };
    const file = await SafetensorsFile.open(source);
    expect((await failure(() => file.readBytes('big'), 'limit')).message).toContain('stream()');
    for await (const chunk of file.stream('big', { chunkBytes: 64 })) {
      expect(chunk.length).toBe(64);
      break;
    }
  });

  it('reads beyond 4 GiB into a file', async () => {
    await withFolder(async (folder) => {
      const gap = 5 * 2 ** 30;
      const header = rawFile(
        `{"gap":{"dtype":"U8","shape":[${gap}],"data_offsets":[0,${gap}]},"x":{"dtype":"U8","shape":[4],"data_offsets":[${gap},${gap + 4}]}}`,
      );
      const path = join(folder, 'sparse.safetensors');
      await writeFile(path, header);
      await truncate(path, header.length + gap);
      await writeFile(path, Uint8Array.of(1, 2, 3, 4), { flag: 'a' });
      const file = await openSafetensors(path);
      expect([...(await file.readBytes('x'))]).toEqual([1, 2, 3, 4]);
      expect([...(await file.readBytes('gap', { begin: gap - 2 }))]).toEqual([0, 0]);
      await file.close();
      const source = await nodeFileSource(path);
      expect([...(await source.read(header.length + gap, header.length + gap + 9))]).toEqual([1, 2, 3, 4]);
      await source.close();
    });
  });
});
