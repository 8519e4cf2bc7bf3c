import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, expect, it } from 'vitest';
import { type ResultFile, readResult, writeResult } from './result-file.js';

let folder: string;
beforeAll(async () => {
  folder = await mkdtemp(join(tmpdir(), 'zebra-bench-'));
});
afterAll(() => rm(folder, { recursive: true }));

it('reads what it wrote', async () => {
  const file = join(folder, 'good.json');
  const row = { name: 'add', shape: '8', median: 1, spread: 0.1, cpu: 1, cpuSpread: 0 };
  const result = { adapter: { vendor: 'none' }, host: { cores: 2, load: 0.5 }, rows: [row] } as unknown as ResultFile;
  await writeResult(file, result);
  expect(await readResult(file)).toEqual(result);
});

it.each([
  ['{"rows": [', 'JSON'],
  ['null', 'no adapter'],
  ['{"adapter": {}, "rows": {}}', 'no rows'],
  ['{"adapter": {}, "rows": [{"name": "add", "shape": "8", "median": 0, "spread": 0}]}', 'a row has no'],
])('refuses %s with the name of the file', async (text, why) => {
  const file = join(folder, 'bad.json');
  await writeFile(file, text);
  await expect(readResult(file)).rejects.toThrow(file);
  await expect(readResult(file)).rejects.toThrow(why);
});

it('names a file that is not there', async () => {
  await expect(readResult(join(folder, 'none.json'))).rejects.toThrow('none.json');
});
