import { readFile } from 'node:fs/promises';
import { fileURLToPath } from 'node:url';
import { describe, expect, it } from 'vitest';
import { exportedNames } from '../src/api/exported-names.js';
import { publishedPackages } from '../src/api/packages.js';
import { formatSnapshot, parseSnapshot } from '../src/api/snapshot.js';

const packages = publishedPackages();
const snapshotPath = (folder: string) => fileURLToPath(new URL(`api/${folder}.txt`, import.meta.url));

describe('public names', () => {
  it('are those of the snapshots (after a change that is meant: npm run api -w @zebra/integration)', async () => {
    const entryPoints = packages.flatMap(({ entryPoints: points }) => points);
    const names = exportedNames(
      entryPoints.map(({ source }) => source),
      ['@zebra/source'],
    );
    const found = new Map(entryPoints.map(({ specifier }, i) => [specifier, names[i]!]));
    for (const { folder, entryPoints: points } of packages) {
      const text = formatSnapshot(points.map(({ specifier }) => [specifier, found.get(specifier)!]));
      expect(text, folder).toBe(await readFile(snapshotPath(folder), 'utf8'));
    }
  });

  it('stand in a text that is read back', () => {
    const names = new Map([
      ['a', { values: ['f', 'g'], types: ['T'] }],
      ['a/b', { values: [], types: ['U'] }],
    ]);
    expect(parseSnapshot(formatSnapshot([...names]))).toEqual(names);
  });
});

it('eight packages are published', () => {
  expect(packages.map(({ folder }) => folder)).toEqual([
    'distill',
    'dpo',
    'init',
    'mamba2',
    'mla',
    'runtime',
    'smart',
    'tensor',
  ]);
});
