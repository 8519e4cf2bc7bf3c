import { mkdir, readFile, symlink, unlink, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { describe, expect, it } from 'vitest';
import { openSafetensorsFolder } from './folder.js';
import { isSafeShardName, parseShardIndex } from './shard-index.js';
import { failure, withFolder } from './test-files.js';
import { writeSafetensors } from './writer.js';

const write = (path: string, ...names: string[]): Promise<number> =>
  writeSafetensors(
    path,
    names.map((name, i) => ({ name, dtype: 'F32' as const, shape: [1], data: Float32Array.of(i) })),
    { metadata: { format: 'pt', [names[0] ?? '']: 'x' } },
  );
const writeIndex = (folder: string, weightMap: Record<string, unknown>): Promise<void> =>
  writeFile(
    join(folder, 'model.safetensors.index.json'),
    JSON.stringify({ metadata: { total_size: 12 }, weight_map: weightMap }),
  );

describe('openSafetensorsFolder', () => {
  it('reads shards as one file', async () => {
    await withFolder(async (folder) => {
      await mkdir(join(folder, 'sub'));
      await write(join(folder, 'a.safetensors'), 'x', 'y');
      await write(join(folder, 'sub', 'b.safetensors'), 'z');
      await writeIndex(folder, { z: 'sub/b.safetensors', y: 'a.safetensors', x: 'a.safetensors' });
      const model = await openSafetensorsFolder(folder);
      expect(model.names).toEqual(['z', 'y', 'x']);
      expect([...model.metadata]).toEqual([
        ['format', 'pt'],
        ['z', 'x'],
        ['x', 'x'],
      ]);
      expect(model.has('y') && !model.has('q')).toBe(true);
      expect([...(await model.readFloat32('y'))]).toEqual([1]);
      expect(model.info('y')).toEqual({
        ...{ name: 'y', dtype: 'F32', shape: [1], byteLength: 4 },
        ...{
          file: join(folder, 'a.safetensors'),
          fileOffset: (await readFile(join(folder, 'a.safetensors'))).length - 4,
        },
      });
      const target = new Uint8Array(2);
      await model.readInto('y', target, 2);
      expect([...target]).toEqual([128, 63]);
      for await (const chunk of model.stream('y')) expect([...chunk]).toEqual([0, 0, 128, 63]);
      await failure(() => model.readBytes('q'), 'missing_tensor');
      await model.close();
      await failure(() => model.readBytes('x'), 'closed');
    });
  });

  it('prefers model.safetensors, and says when there is nothing', async () => {
    await withFolder(async (folder) => {
      await failure(() => openSafetensorsFolder(folder), 'not_found');
      await failure(() => openSafetensorsFolder(join(folder, 'nowhere')), 'not_found');
      await write(join(folder, 'model.safetensors'), 'single');
      await writeIndex(folder, { x: 'missing.safetensors' });
      const model = await openSafetensorsFolder(folder);
      expect(model.names).toEqual(['single']);
      await model.close();
    });
  });

  it('lists every contradiction at once', async () => {
    await withFolder(async (folder) => {
      await write(join(folder, 'a.safetensors'), 'x', 'both', 'extra');
      await write(join(folder, 'b.safetensors'), 'both', 'z');
      const map = {
        x: 'a.safetensors',
        both: 'b.safetensors',
        lost: 'b.safetensors',
        gone: 'c.safetensors',
        z: 'b.safetensors',
      };
      await writeIndex(folder, map);
      const error = await failure(() => openSafetensorsFolder(folder), 'invalid_index');
      expect(error.problems.map(({ code, file, tensor }) => [code, file, tensor])).toEqual([
        ['missing_shard', 'c.safetensors', undefined],
        ['missing_tensor', 'b.safetensors', 'lost'],
        ['unlisted_tensor', 'a.safetensors', 'extra'],
        ['duplicate', 'b.safetensors', 'both'],
      ]);
      for (const word of ['"lost"', 'c.safetensors', '"both"', '"extra"']) expect(error.message).toContain(word);
      const rest = await failure(() => openSafetensorsFolder(folder, { unlisted: 'ignore' }));
      expect(rest.problems.length).toBe(3);
    });
  });

  it('has the single code when all problems are of one kind, and can leave out unlisted tensors', async () => {
    await withFolder(async (folder) => {
      await write(join(folder, 'a.safetensors'), 'x', 'extra');
      await writeIndex(folder, { x: 'a.safetensors' });
      await failure(() => openSafetensorsFolder(folder), 'unlisted_tensor');
      const model = await openSafetensorsFolder(folder, { unlisted: 'ignore' });
      expect(model.names).toEqual(['x']);
      await failure(() => model.readBytes('extra'), 'missing_tensor');
      await model.close();
      await writeIndex(folder, { x: 'a.safetensors', extra: 'c.safetensors', y: 'd.safetensors' });
      await failure(() => openSafetensorsFolder(folder, { unlisted: 'ignore' }), 'missing_shard');
    });
  });

  it('names the shard whose header is bad', async () => {
    await withFolder(async (folder) => {
      await writeFile(join(folder, 'a.safetensors'), 'version https://git-lfs');
      await writeIndex(folder, { x: 'a.safetensors' });
      const error = await failure(() => openSafetensorsFolder(folder), 'header_too_large');
      expect(error.file).toBe(join(folder, 'a.safetensors'));
    });
  });

  it.skipIf(process.platform === 'win32')('refuses links that leave the folder, unless below linkRoot', async () => {
    await withFolder(async (cache) => {
      const snapshot = join(cache, 'snapshots', 'main');
      await mkdir(snapshot, { recursive: true });
      await mkdir(join(cache, 'blobs'));
      await write(join(cache, 'blobs', '1234'), 'x');
      await symlink('../../blobs/1234', join(snapshot, 'a.safetensors'));
      await writeIndex(snapshot, { x: 'a.safetensors' });
      const error = await failure(() => openSafetensorsFolder(snapshot), 'shard_path');
      expect(error.message).toContain('linkRoot');
      const model = await openSafetensorsFolder(snapshot, { linkRoot: cache });
      expect([...(await model.readFloat32('x'))]).toEqual([0]);
      await model.close();

      // A folder link inside the way, and the single file, count as well.
      await symlink(join(cache, 'blobs'), join(snapshot, 'sub'));
      await write(join(cache, 'blobs', 'b.safetensors'), 'x');
      await writeIndex(snapshot, { x: 'sub/b.safetensors' });
      await failure(() => openSafetensorsFolder(snapshot), 'shard_path');
      await symlink('../../blobs/1234', join(snapshot, 'model.safetensors'));
      await failure(() => openSafetensorsFolder(snapshot), 'shard_path');
      // A sibling whose name starts alike is outside too.
      await mkdir(`${snapshot}-other`);
      await write(join(`${snapshot}-other`, 'm'), 'x');
      await unlink(join(snapshot, 'model.safetensors'));
      await symlink(join(`${snapshot}-other`, 'm'), join(snapshot, 'model.safetensors'));
      await failure(() => openSafetensorsFolder(snapshot), 'shard_path');
    });
  });

  it.skipIf(process.platform === 'win32')(
    'follows links inside the folder, and a link to the folder itself',
    async () => {
      await withFolder(async (folder) => {
        await mkdir(join(folder, 'real'));
        await write(join(folder, 'real', 'data'), 'x');
        await symlink('data', join(folder, 'real', 'model.safetensors'));
        await symlink('real', join(folder, 'alias'));
        const model = await openSafetensorsFolder(join(folder, 'alias'));
        expect(model.names).toEqual(['x']);
        await model.close();
      });
    },
  );
});

describe('parseShardIndex', () => {
  it.each([
    '../a.safetensors',
    'x/../../a.safetensors',
    '/etc/a.safetensors',
    '..\\a.safetensors',
    'C:\\a.safetensors',
    'C:a.safetensors',
    '\\\\host\\share\\a.safetensors',
    'a.safetensors\0',
    'a\0.safetensors',
    './a.safetensors',
    'x//a.safetensors',
    '',
    '.',
    '..',
    'passwd',
    'a.safetensors/',
    'a.safetensors:stream.safetensors',
    `${'a'.repeat(2000)}.safetensors`,
    'a\n.safetensors',
  ])('refuses the shard name %j', async (name) => {
    expect(isSafeShardName(name)).toBe(false);
    const text = JSON.stringify({ weight_map: { t: name, good: 'a.safetensors', u: '../b.safetensors' } });
    const error = await failure(() => parseShardIndex(text), 'shard_path');
    expect(error.problems.length).toBe(name === '../b.safetensors' ? 1 : 2);
  });

  it('reads names in order, and safe sub-folders', () => {
    const index = parseShardIndex(
      '{"weight_map":{"2":"b.safetensors","1":"x/a..b.safetensors","__proto__":"b.safetensors"},"metadata":{"total_size":5}}',
    );
    expect([...index.weightMap.keys()]).toEqual(['2', '1', '__proto__']);
    expect(index.shards).toEqual(['b.safetensors', 'x/a..b.safetensors']);
    expect(index.totalSize).toBe(5);
    expect(parseShardIndex('{"weight_map":{},"metadata":{"total_size":1.5}}').totalSize).toBeUndefined();
  });

  it.each([
    ['invalid_index', ''],
    ['invalid_index', '[]'],
    ['invalid_index', '{}'],
    ['invalid_index', '{"weight_map":[]}'],
    ['duplicate', '{"weight_map":{"a":"x.safetensors","a":"y.safetensors"}}'],
    ['shard_path', '{"weight_map":{"a":7,"b":"../x.safetensors"}}'],
    ['invalid_index', '{"weight_map":{"a":7,"b":null}}'],
  ] as const)('%s for %s', async (code, text) => {
    await failure(() => parseShardIndex(text), code);
  });
});
