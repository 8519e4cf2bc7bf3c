import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { build } from 'esbuild';
import { afterAll, expect, it } from 'vitest';

const folder = await mkdtemp(join(tmpdir(), 'zebra-browser-'));
afterAll(() => rm(folder, { recursive: true }));

/** Packages that promise to work in a browser: a bundler for one must not stumble over Node's modules in them. */
const PACKAGES = [
  '@zebra/tensor',
  '@zebra/tensor/nn',
  '@zebra/tensor/train',
  '@zebra/tensor/safetensors',
  '@zebra/mla',
  '@zebra/mamba2',
  '@zebra/init',
  '@zebra/smart',
  '@zebra/distill',
  '@zebra/dpo',
];

it.each(PACKAGES)('%s bundles for a browser', async (name) => {
  const entry = join(folder, 'entry.js');
  await writeFile(entry, `import * as library from '${name}';\nglobalThis.library = library;\n`);
  const { outputFiles, errors } = await build({
    entryPoints: [entry],
    bundle: true,
    write: false,
    format: 'esm',
    platform: 'browser',
    conditions: ['@zebra/source'],
    nodePaths: [join(import.meta.dirname, '..', '..', '..', 'node_modules')],
    logLevel: 'silent',
  });
  expect(errors).toEqual([]);
  const text = outputFiles[0]!.text;
  expect(text.length).toBeGreaterThan(1000);
  expect(text).not.toMatch(/from\s*["']node:/);
});
