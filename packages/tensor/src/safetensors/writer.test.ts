import { spawn } from 'node:child_process';
import { readdir, readFile, utimes, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { describe, expect, it } from 'vitest';
import { nodeFileSystem, type WriterFileSystem, type WriterHandle } from './file-system.js';
import { openSafetensors } from './open.js';
import type { TensorInput } from './tensor-input.js';
import { failure, withFolder } from './test-files.js';
import { serializeSafetensors, type WriteProgress, writeSafetensors } from './writer.js';

const one = (name: string, value = 1): TensorInput => ({
  name,
  dtype: 'F32',
  shape: [1],
  data: Float32Array.of(value),
});

/** The local disk, full after `room` bytes. */
async function fullDisk(room: number, code = 'ENOSPC'): Promise<WriterFileSystem> {
  const disk = await nodeFileSystem();
  let left = room;
  return {
    ...disk,
    async create(path) {
      const handle = await disk.create(path);
      return {
        ...handle,
        async write(bytes) {
          if (left === 0) throw Object.assign(new Error(`${code}: no room`), { code });
          const written = await handle.write(bytes.subarray(0, left));
          left -= written;
          return written;
        },
      };
    },
  };
}

describe('writeSafetensors', () => {
  it('writes the bytes of serializeSafetensors and tells how far it is', async () => {
    await withFolder(async (folder) => {
      const path = join(folder, 'a.safetensors');
      const progress: WriteProgress[] = [];
      const size = await writeSafetensors(path, [one('a'), one('b')], { onProgress: (step) => progress.push(step) });
      const bytes = await readFile(path);
      expect(bytes).toEqual(Buffer.from(await serializeSafetensors([one('a'), one('b')])));
      expect(size).toBe(bytes.length);
      expect(progress).toEqual([
        { writtenBytes: size - 4, totalBytes: size, tensor: 'a' },
        { writtenBytes: size, totalBytes: size, tensor: 'b' },
      ]);
      expect(await readdir(folder)).toEqual(['a.safetensors']);
    });
  });

  it('keeps the old file and removes its own when the disk is full, wherever that happens', async () => {
    await withFolder(async (folder) => {
      const path = join(folder, 'a.safetensors');
      const size = await writeSafetensors(path, [one('old')]);
      const old = await readFile(path);
      for (let room = 0; room < size; room += 5) {
        const error = await failure(
          async () => writeSafetensors(path, [one('new')], { fileSystem: await fullDisk(room) }),
          'disk_full',
        );
        expect(error.file).toBe(path);
        expect(await readFile(path)).toEqual(old);
        expect(await readdir(folder)).toEqual(['a.safetensors']);
      }
      await failure(async () => writeSafetensors(path, [one('new')], { fileSystem: await fullDisk(9, 'EIO') }), 'io');
      await failure(
        async () => writeSafetensors(path, [one('new')], { fileSystem: await fullDisk(9, 'EDQUOT') }),
        'disk_full',
      );
      await writeSafetensors(path, [one('new')], { fileSystem: await fullDisk(size) });
      expect((await openSafetensors(await readFile(path))).names).toEqual(['new']);
    });
  });

  it.each(['sync', 'close', 'rename', 'syncFolder'] as const)('leaves a whole file when %s fails', async (step) => {
    await withFolder(async (folder) => {
      const path = join(folder, 'a.safetensors');
      await writeSafetensors(path, [one('old')]);
      const disk = await nodeFileSystem();
      const fail = async (): Promise<never> => Promise.reject(Object.assign(new Error('EIO'), { code: 'EIO' }));
      const failing = (handle: WriterHandle): WriterHandle => ({
        ...handle,
        [step]: () => handle[step as 'sync' | 'close']().then(fail),
      });
      const fileSystem: WriterFileSystem =
        step === 'sync' || step === 'close'
          ? { ...disk, create: async (name) => failing(await disk.create(name)) }
          : { ...disk, [step]: fail };
      await failure(() => writeSafetensors(path, [one('new')], { fileSystem }), 'io');
      expect((await openSafetensors(await readFile(path))).names).toEqual([step === 'syncFolder' ? 'new' : 'old']);
      expect(await readdir(folder)).toEqual(['a.safetensors']);
    });
  });

  it('passes on what a tensor’s function throws, with the old file in place', async () => {
    await withFolder(async (folder) => {
      const path = join(folder, 'a.safetensors');
      await writeSafetensors(path, [one('old')]);
      const data = (): never => {
        throw new TypeError('mine');
      };
      await expect(writeSafetensors(path, [one('a'), { ...one('b'), data }])).rejects.toThrow(TypeError);
      expect(await readdir(folder)).toEqual(['a.safetensors']);
      expect((await openSafetensors(await readFile(path))).names).toEqual(['old']);
    });
  });

  it('says when the folder is not there', async () => {
    await failure(() => writeSafetensors('/nowhere/at/all/a.safetensors', [one('a')]), 'not_found');
  });

  it('survives SIGKILL in the middle of a write, and the next write sweeps up', async () => {
    await withFolder(async (folder) => {
      const path = join(folder, 'a.safetensors');
      await writeSafetensors(path, [one('old')]);
      const script = `
        import { writeSafetensors } from ${JSON.stringify(new URL('./writer.ts', import.meta.url).href)};
        const forever = setInterval(() => {}, 1000);
        const wait = () => new Promise(() => console.log('half way'));
        await writeSafetensors(${JSON.stringify(path)}, [
          { name: 'a', dtype: 'U8', shape: [3000000], data: new Uint8Array(3000000) },
          { name: 'b', dtype: 'U8', shape: [1], data: wait },
        ]);`;
      const child = spawn(process.execPath, ['--import', 'tsx', '--input-type=module', '-e', script], {
        stdio: ['ignore', 'pipe', 'inherit'],
      });
      await new Promise<void>((resolve, reject) => {
        child.stdout.once('data', () => resolve());
        child.once('exit', () => reject(new Error('the child ended before it was killed')));
      });
      const gone = new Promise((resolve) => child.once('exit', resolve));
      child.kill('SIGKILL');
      await gone;
      const left = (await readdir(folder)).filter((name) => name !== 'a.safetensors');
      expect(left).toEqual([expect.stringMatching(/^\.a\.safetensors\.\d+-[0-9a-f]{12}\.tmp$/)]);
      expect((await openSafetensors(await readFile(path))).names).toEqual(['old']);

      // Fresh temporary files might be another machine's; they go once nothing was written to them for a minute.
      const foreign = join(folder, '.b.safetensors.1-000000000000.tmp');
      await writeFile(foreign, '');
      await writeSafetensors(path, [one('new')]);
      expect((await readdir(folder)).length).toBe(3);
      const past = new Date(Date.now() - 90_000);
      for (const name of [join(folder, left[0] as string), foreign]) await utimes(name, past, past);
      await writeSafetensors(path, [one('newer')]);
      expect((await readdir(folder)).sort()).toEqual(['.b.safetensors.1-000000000000.tmp', 'a.safetensors']);
    });
  });

  it('lets writers of one file race; one of them wins whole', async () => {
    await withFolder(async (folder) => {
      const path = join(folder, 'a.safetensors');
      await Promise.all(Array.from({ length: 8 }, (_, i) => writeSafetensors(path, [one(`t${i}`)])));
      expect((await openSafetensors(await readFile(path))).names.length).toBe(1);
      expect(await readdir(folder)).toEqual(['a.safetensors']);
    });
  });
});
