import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdir, open, readdir, rename, rm, stat, symlink, unlink } from 'node:fs/promises';
import { join } from 'node:path';
import { setTimeout } from 'node:timers/promises';
import { fileURLToPath } from 'node:url';
import { type HybridModel, loadModel, saveModel } from '@zebra/runtime';
import { ZebraError } from '@zebra/tensor';
import type { WriterFileSystem } from '@zebra/tensor/safetensors';
import { testDevice } from '@zebra/tensor/testing';
import { describe, expect, it } from 'vitest';
import { withFolder } from './support/folders.js';
import { CONFIGS, smallModel } from './support/small-model.js';

async function valuesOf(model: HybridModel): Promise<Map<string, Float32Array>> {
  const all = new Map<string, Float32Array>();
  for (const [name, weight] of model.namedParameters()) all.set(name, (await weight.read()) as Float32Array);
  return all;
}

/** A disk that takes `room` bytes; on Linux what comes after goes to a device that is full, for the system's own error. */
function fullDisk(room: number): WriterFileSystem {
  let left = room;
  return {
    async create(path) {
      const file = await open(path, 'wx');
      const full = process.platform === 'linux' ? await open('/dev/full', 'w') : undefined;
      return {
        async write(bytes) {
          left -= bytes.length;
          if (left < 0 && !full) throw Object.assign(new Error('no space left on device'), { code: 'ENOSPC' });
          return (await (left < 0 && full ? full : file).write(bytes)).bytesWritten;
        },
        sync: () => file.sync(),
        async close() {
          await file.close();
          await full?.close();
        },
      };
    },
    rename,
    unlink,
    makeFolder: async (path) => void (await mkdir(path, { recursive: true })),
    list: (folder) => readdir(folder),
    modified: async (path) => (await stat(path)).mtimeMs,
    syncFolder: async () => {},
  };
}

/** A disk whose power goes at the given operation: it and all later ones fail without effect, as after a kill. */
function dyingDisk(operations: number): {
  fileSystem: WriterFileSystem;
  died: () => boolean;
  operations: () => number;
} {
  let left = operations;
  const step = async <T>(run: () => Promise<T>): Promise<T> => {
    if (left-- <= 0) throw Object.assign(new Error('power gone'), { code: 'EIO' });
    return run();
  };
  const fileSystem: WriterFileSystem = {
    create: (path) =>
      step(async () => {
        const file = await open(path, 'wx');
        return {
          write: (bytes) => step(async () => (await file.write(bytes)).bytesWritten),
          sync: () => step(async () => {}),
          close: () => file.close(),
        };
      }),
    rename: (from, to) => step(() => rename(from, to)),
    unlink: (path) => step(() => unlink(path)),
    makeFolder: async (path) => void (await mkdir(path, { recursive: true })),
    list: (folder) => readdir(folder),
    modified: async (path) => (await stat(path)).mtimeMs,
    syncFolder: () => step(async () => {}),
  };
  return { fileSystem, died: () => left < 0, operations: () => operations - left };
}

describe('a full disk', () => {
  it.each([
    ['at once', 0, undefined],
    ['in the middle of the file', 60_000, undefined],
    ['in the third shard', 60_000, 20_000],
  ])('%s leaves the old model, no other file, and an error that says so', async (_, room, maxShardBytes) => {
    await withFolder(async (folder) => {
      const device = await testDevice();
      using old = smallModel(device, 'mla-mamba2', 1);
      using next = smallModel(device, 'mla-mamba2', 2);
      const live = device.statistics().liveBuffers;
      const options = { configJson: CONFIGS['mla-mamba2'], ...(maxShardBytes && { maxShardBytes }) };
      await saveModel(folder, old, old.spec, options);
      const files = await readdir(folder);
      const failed = saveModel(folder, next, next.spec, { ...options, fileSystem: fullDisk(room) });
      await expect(failed).rejects.toThrow(
        /model.*\.safetensors: writing failed, the disk or quota is full\. Free some/,
      );
      await expect(failed).rejects.toMatchObject({ code: 'disk_full', cause: { code: 'ENOSPC' } });
      expect(await readdir(folder)).toEqual(files);
      {
        using loaded = await loadModel(device, folder);
        expect(await valuesOf(loaded)).toEqual(await valuesOf(old));
      }
      expect(device.statistics().liveBuffers).toBe(live);
    });
  });
});

describe('a kill', () => {
  it.each([40, 170, 330])('%d ms after the second save leaves one whole model', async (delay) => {
    await withFolder(async (folder) => {
      const script = fileURLToPath(new URL('./support/save-child.ts', import.meta.url));
      const child = spawn(process.execPath, ['--conditions=@zebra/source', '--import', 'tsx', script, folder], {
        stdio: ['ignore', 'pipe', 'inherit'],
      });
      const exit = once(child, 'exit');
      let saved = 0;
      child.stdout.on('data', (text: Buffer) => {
        saved = Number(text.toString().trim().split('\n').at(-1));
      });
      for (let wait = 0; wait < 6000 && child.exitCode === null && saved < 2; wait++) await setTimeout(10);
      await setTimeout(delay);
      child.kill('SIGKILL');
      expect((await exit)[1]).toBe('SIGKILL');

      const device = await testDevice();
      const live = device.statistics().liveBuffers;
      {
        using loaded = await loadModel(device, folder);
        const numbers = new Set([...(await valuesOf(loaded)).values()].flatMap((values) => [...values]));
        expect(numbers.size).toBe(1);
        // The last one that was reported, or the one under way, which may have been finished without a report.
        expect(saved).toBeGreaterThanOrEqual(2);
        expect([saved, saved + 1]).toContain([...numbers][0]);
      }
      // The folder can be saved to again.
      {
        using next = smallModel(device, 'mla-mamba2', 2);
        await saveModel(folder, next, next.spec, { configJson: CONFIGS['mla-mamba2'] });
        using again = await loadModel(device, folder);
        expect(await valuesOf(again)).toEqual(await valuesOf(next));
      }
      expect(device.statistics().liveBuffers).toBe(live);
    });
  });
});

describe('a save that stops at any operation of the disk', () => {
  it('leaves the old model or the new one, of another architecture, with its own configs', async () => {
    const device = await testDevice();
    using old = smallModel(device, 'mla-mamba2', 1);
    using next = smallModel(device, 'qwen3', 2);
    const [before, after] = [await valuesOf(old), await valuesOf(next)];
    const live = device.statistics().liveBuffers;
    const seen = new Set<string>();
    // All of the last ones, where files get their names, and some of the many writes before.
    let total = Number.POSITIVE_INFINITY;
    for (let operations = 1000; operations >= 0; operations -= operations > total - 20 ? 1 : 9) {
      await withFolder(async (folder) => {
        await saveModel(folder, old, old.spec, { configJson: CONFIGS['mla-mamba2'] });
        const disk = dyingDisk(operations);
        const options = { configJson: CONFIGS.qwen3, maxShardBytes: 20_000, fileSystem: disk.fileSystem };
        await saveModel(folder, next, next.spec, options).catch(() => undefined);
        if (!disk.died()) {
          total = disk.operations();
          operations = total;
        }
        using loaded = await loadModel(device, folder);
        const isOld = loaded.spec.hybrid !== undefined;
        seen.add(isOld ? 'old' : 'new');
        expect(await valuesOf(loaded)).toEqual(isOld ? before : after);
      });
    }
    expect([...seen].sort()).toEqual(['new', 'old']);
    expect(device.statistics().liveBuffers).toBe(live);
  });
});

describe('a folder', () => {
  it('that held a hybrid holds the Transformer that is saved over it', async () => {
    await withFolder(async (folder) => {
      const device = await testDevice();
      using hybrid = smallModel(device, 'all-mla');
      using teacher = smallModel(device, 'llama');
      await saveModel(folder, hybrid, hybrid.spec, { configJson: CONFIGS['all-mla'] });
      await saveModel(folder, teacher, teacher.spec, { configJson: CONFIGS.llama });
      using loaded = await loadModel(device, folder);
      expect(loaded.spec.layers).toEqual(['attention', 'attention', 'attention']);
    });
  });

  it('that cannot be written is named', async () => {
    await withFolder(async (folder) => {
      const device = await testDevice();
      using model = smallModel(device, 'llama');
      // A folder where config.json should come to stand.
      await mkdir(join(folder, 'config.json', 'x'), { recursive: true });
      const failed = saveModel(folder, model, model.spec, { configJson: CONFIGS.llama });
      await expect(failed).rejects.toThrow(/config\.json: renaming the finished file failed/);
      await expect(failed).rejects.toSatisfy(ZebraError.is);
      expect((await readdir(folder)).filter((name) => name.endsWith('.tmp'))).toEqual([]);
      // The weights are the new ones already, and their configs are kept where loading finds them.
      {
        using loaded = await loadModel(device, folder);
        expect(await valuesOf(loaded)).toEqual(await valuesOf(model));
      }
      await rm(join(folder, 'config.json'), { recursive: true });
      using next = smallModel(device, 'all-mla');
      await saveModel(folder, next, next.spec, { configJson: CONFIGS['all-mla'] });
      expect((await readdir(folder)).sort()).toEqual(['config.json', 'hybrid_config.json', 'model.safetensors']);
    });
  });

  it('whose files are links, as in the Hugging Face cache, loads with its linkRoot', async () => {
    await withFolder(async (root) => {
      const device = await testDevice();
      using model = smallModel(device, 'llama');
      const [blobs, snapshot] = [join(root, 'blobs'), join(root, 'snapshots', 'main')];
      await saveModel(blobs, model, model.spec, { configJson: CONFIGS.llama });
      await mkdir(snapshot, { recursive: true });
      for (const file of await readdir(blobs)) await symlink(join('..', '..', 'blobs', file), join(snapshot, file));
      await expect(loadModel(device, snapshot)).rejects.toThrow(/link that leaves the folder.*linkRoot/);
      using loaded = await loadModel(device, snapshot, { linkRoot: root });
      expect(await valuesOf(loaded)).toEqual(await valuesOf(model));
    });
  });
});
