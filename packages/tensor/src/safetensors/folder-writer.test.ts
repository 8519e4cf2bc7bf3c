import { mkdir, readdir, readFile, unlink, utimes, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { describe, expect, it } from 'vitest';
import { finishWrite, readCompanion } from './companions.js';
import { nodeFileSystem, type WriterFileSystem } from './file-system.js';
import { openSafetensorsFolder } from './folder.js';
import { writeSafetensorsFolder } from './folder-writer.js';
import type { TensorInput } from './tensor-input.js';
import { failure, withFolder } from './test-files.js';

const model = (version: number, count = 5): TensorInput[] =>
  Array.from({ length: count }, (_, i) => ({
    name: `t${i}`,
    dtype: 'F32',
    shape: [2],
    data: Float32Array.of(version, i),
  }));

/** The version of the folder's model; fails if its tensors are of several versions, or some are missing. */
async function versionIn(folder: string): Promise<number> {
  const reader = await openSafetensorsFolder(folder);
  const versions = new Set<number>();
  for (let i = 0; i < 5; i++) {
    const [version, number] = await reader.readFloat32(`t${i}`);
    expect(number).toBe(i);
    versions.add(version as number);
  }
  await reader.close();
  expect(versions.size).toBe(1);
  return [...versions][0] as number;
}

/**
 * A disk on which the power goes at the given operation: it and all later ones
 * fail without effect, so nothing is tidied up, as after a kill.
 */
async function dyingDisk(operations: number): Promise<{ fileSystem: WriterFileSystem; died: () => boolean }> {
  const disk = await nodeFileSystem();
  let left = operations;
  const step =
    <A extends unknown[], R>(run: (...args: A) => Promise<R>) =>
    async (...args: A): Promise<R> => {
      if (left-- <= 0) throw Object.assign(new Error('power gone'), { code: 'EIO' });
      return run(...args);
    };
  const create = async (path: string) => {
    const { write, sync, close } = await disk.create(path);
    return { write: step(write), sync: step(sync), close: async () => close().then(step(async () => undefined)) };
  };
  const fileSystem = {
    ...disk,
    create: step(create),
    rename: step(disk.rename),
    unlink: step(disk.unlink),
    syncFolder: step(disk.syncFolder),
  };
  return { fileSystem, died: () => left < 0 };
}

describe('writeSafetensorsFolder', () => {
  it('writes one file when everything fits', async () => {
    await withFolder(async (parent) => {
      const folder = join(parent, 'new', 'folder');
      const written = await writeSafetensorsFolder(folder, model(1), { metadata: { format: 'pt' } });
      expect(written).toMatchObject({ files: ['model.safetensors'], leftovers: [] });
      expect(written.totalBytes).toBe((await readFile(join(folder, 'model.safetensors'))).length);
      expect(await versionIn(folder)).toBe(1);
    });
  });

  it('writes shards and an index in the usual form otherwise', async () => {
    await withFolder(async (folder) => {
      const steps: number[] = [];
      const written = await writeSafetensorsFolder(folder, model(1), {
        maxShardBytes: 16,
        onProgress: (p) => steps.push(p.writtenBytes / p.totalBytes),
      });
      const shards = [1, 2, 3].map((i) => `model-0000${i}-of-00003.safetensors`);
      expect(written.files).toEqual([...shards, 'model.safetensors.index.json']);
      expect((await readdir(folder)).sort()).toEqual([...written.files].sort());
      expect(await readFile(join(folder, 'model.safetensors.index.json'), 'utf8')).toBe(
        `${JSON.stringify({ metadata: { total_size: 40 }, weight_map: { t0: shards[0], t1: shards[0], t2: shards[1], t3: shards[1], t4: shards[2] } }, null, 2)}\n`,
      );
      expect(await versionIn(folder)).toBe(1);
      expect(steps.at(-1)).toBe(1);
      expect([...steps].sort((a, b) => a - b)).toEqual(steps);
    });
  });

  it('gives a tensor above the limit its own shard, and writes no tensors at all', async () => {
    await withFolder(async (folder) => {
      expect((await writeSafetensorsFolder(folder, model(1), { maxShardBytes: 1 })).files.length).toBe(6);
      await failure(() => writeSafetensorsFolder(folder, [], { maxShardBytes: 0 }), 'argument');
      expect((await writeSafetensorsFolder(folder, [])).files).toEqual(['model.safetensors']);
      const empty = await openSafetensorsFolder(folder);
      expect(empty.names).toEqual([]);
      await empty.close();
    });
  });

  it('replaces any form by any form and removes only the old model', async () => {
    await withFolder(async (folder) => {
      const others = ['config.json', 'adapter.safetensors', 'model-00009-of-00009.safetensors'];
      for (const name of others) await writeFile(join(folder, name), 'x');
      let version = 0;
      for (const maxShardBytes of [16, 16, 16, 100, 100, 8, 16, 100]) {
        const { files, leftovers } = await writeSafetensorsFolder(folder, model(++version), { maxShardBytes });
        expect(await versionIn(folder)).toBe(version);
        expect((await readdir(folder)).sort()).toEqual([...files, ...others].sort());
        expect(leftovers).toEqual([]);
      }
    });
  });

  it('can take its tensors from the very model it replaces', async () => {
    await withFolder(async (folder) => {
      await writeSafetensorsFolder(folder, model(3), { maxShardBytes: 16 });
      const old = await openSafetensorsFolder(folder);
      const copies = old.names.map((name) => ({ ...old.info(name), data: () => old.stream(name) }));
      await writeSafetensorsFolder(folder, copies, { maxShardBytes: 16 });
      await old.close();
      expect(await versionIn(folder)).toBe(3);
    });
  });

  it('does not trust the index it replaces', async () => {
    await withFolder(async (parent) => {
      const folder = join(parent, 'm');
      await mkdir(folder);
      await writeFile(join(parent, 'model-00001-of-00001.safetensors'), 'x');
      await writeFile(join(folder, 'other.safetensors'), 'x');
      const index = join(folder, 'model.safetensors.index.json');
      await writeFile(index, '{"weight_map":{"a":"other.safetensors"}}');
      await writeSafetensorsFolder(folder, model(1));
      await writeFile(index, '{"weight_map":{"a":"../model-00001-of-00001.safetensors"}}');
      await writeSafetensorsFolder(folder, model(1));
      await writeFile(index, 'not JSON');
      await writeSafetensorsFolder(folder, model(1));
      expect((await readdir(folder)).sort()).toEqual(['model.safetensors', 'other.safetensors']);
      expect((await readdir(parent)).length).toBe(2);
    });
  });

  it.each([
    ['shards', 'shards', 16, 16],
    ['shards', 'one file', 16, 100],
    ['one file', 'shards', 100, 16],
    ['one file', 'one file', 100, 100],
  ])(
    '%s replaced by %s: a kill before any operation leaves the old or the new model whole',
    async (_from, _to, oldBytes, newBytes) => {
      const seen = new Set<number>();
      for (let operations = 0, died = true; died; operations++) {
        await withFolder(async (folder) => {
          await writeSafetensorsFolder(folder, model(1), { maxShardBytes: oldBytes });
          const disk = await dyingDisk(operations);
          let finished = true;
          try {
            await writeSafetensorsFolder(folder, model(2), { maxShardBytes: newBytes, fileSystem: disk.fileSystem });
          } catch {
            finished = false;
          }
          died = disk.died();
          const version = await versionIn(folder);
          seen.add(version);
          if (finished) expect(version).toBe(2);
          // Whatever was left behind, the next write succeeds.
          await writeSafetensorsFolder(folder, model(3), { maxShardBytes: newBytes });
          expect(await versionIn(folder)).toBe(3);
        });
      }
      expect([...seen].sort()).toEqual([1, 2]);
    },
  );

  it.each([
    ['shards', 'shards', 16, 16],
    ['shards', 'one file', 16, 100],
    ['one file', 'shards', 100, 16],
    ['one file', 'one file', 100, 100],
  ])(
    'companions change with the tensors, %s replaced by %s: a kill before any operation leaves those that belong to them',
    async (_from, _to, oldBytes, newBytes) => {
      const companions = (version: number) =>
        new Map([
          ['config.json', `config ${version}`],
          // The first model has it, the second has not, the third again.
          ['hybrid.json', version === 2 ? undefined : `hybrid ${version}`],
        ]);
      const check = async (folder: string, version: number) => {
        expect(await readCompanion(folder, 'config.json')).toBe(`config ${version}`);
        expect(await readCompanion(folder, 'hybrid.json')).toBe(version === 2 ? undefined : `hybrid ${version}`);
      };
      const seen = new Set<number>();
      for (let operations = 0, died = true; died; operations++) {
        await withFolder(async (folder) => {
          await writeSafetensorsFolder(folder, model(1), { maxShardBytes: oldBytes, companions: companions(1) });
          await check(folder, 1);
          const disk = await dyingDisk(operations);
          const options = { maxShardBytes: newBytes, companions: companions(2) };
          await writeSafetensorsFolder(folder, model(2), { ...options, fileSystem: disk.fileSystem }).catch(() => {});
          died = disk.died();
          const version = await versionIn(folder);
          seen.add(version);
          await check(folder, version);
          // A write that fails at once leaves what was there, with its companions under their own names.
          const { fileSystem } = await dyingDisk(20);
          const full = {
            ...fileSystem,
            create: async () => Promise.reject(Object.assign(new Error(), { code: 'ENOSPC' })),
          };
          await failure(() => writeSafetensorsFolder(folder, model(3), { fileSystem: full }), 'disk_full');
          await check(folder, await versionIn(folder));
          await writeSafetensorsFolder(folder, model(3), { maxShardBytes: newBytes, companions: companions(3) });
          expect(await versionIn(folder)).toBe(3);
          await check(folder, 3);
          const left = (await readdir(folder)).filter((name) => !name.endsWith('.tmp') && !/^model/.test(name));
          expect(left.sort()).toEqual(['config.json', 'hybrid.json']);
          expect(await readFile(join(folder, 'hybrid.json'), 'utf8')).toBe('hybrid 3');
        });
      }
      expect([...seen].sort()).toEqual([1, 2]);
    },
  );

  it('a switch file says nothing beside other tensors, or when it is no such file', async () => {
    await withFolder(async (folder) => {
      await writeSafetensorsFolder(folder, model(1), { companions: new Map([['config.json', 'old']]) });
      const entry = 'model.safetensors';
      await utimes(join(folder, entry), 1000, 1000);
      const write = (content: unknown) => writeFile(join(folder, '.zebra-switch.json'), JSON.stringify(content));
      const read = () => readCompanion(folder, 'config.json');
      await write({ entry, modified: 1_000_000, companions: { 'config.json': 'new' } });
      expect(await read()).toBe('new');
      await write({ entry, modified: 1_000_001, companions: { 'config.json': 'new' } });
      expect(await read()).toBe('old');
      const write2 = {
        entry,
        modified: 1_000_000,
        companions: { 'config.json': 'old', 'a.json': 'a', 'b.json': null },
      };
      await write(write2);
      await writeFile(join(folder, 'b.json'), 'b');
      await finishWrite(folder);
      expect((await readdir(folder)).sort()).toEqual(['a.json', 'config.json', 'model.safetensors']);
      await finishWrite(folder);
      await write({ entry: 'model.safetensors.index.json', modified: 1_000_000, companions: { 'config.json': 'new' } });
      expect(await read()).toBe('old');
      for (const companions of [{ '../x': 'new' }, { 'config.json': 7 }, {}, null]) {
        await write({ entry, modified: 1_000_000, companions });
        expect(await read()).toBe('old');
      }
      await unlink(join(folder, 'config.json'));
      expect(await read()).toBeUndefined();
      for (const name of ['../x', 'a/b', 'model.safetensors', '']) {
        await failure(
          () => writeSafetensorsFolder(folder, model(1), { companions: new Map([[name, '']]) }),
          'argument',
        );
      }
    });
  });

  it('tidies up after a failure that is no kill', async () => {
    await withFolder(async (folder) => {
      const { files } = await writeSafetensorsFolder(folder, model(1), { maxShardBytes: 16 });
      const data = (): never => {
        throw new TypeError('mine');
      };
      const broken = [...model(2), { name: 'last', dtype: 'F32', shape: [1], data } as TensorInput];
      await expect(writeSafetensorsFolder(folder, broken, { maxShardBytes: 16 })).rejects.toThrow(TypeError);
      const disk = await nodeFileSystem();
      let renames = 0;
      const rename = async (from: string, to: string): Promise<void> => {
        if (++renames === 2) throw Object.assign(new Error('full'), { code: 'ENOSPC' });
        await disk.rename(from, to);
      };
      await failure(
        () => writeSafetensorsFolder(folder, model(2), { maxShardBytes: 16, fileSystem: { ...disk, rename } }),
        'disk_full',
      );
      expect((await readdir(folder)).sort()).toEqual([...files].sort());
      expect(await versionIn(folder)).toBe(1);
    });
  });
});
