import { mkdir, mkdtemp, rm, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { writeSafetensors, writeSafetensorsFolder } from '@zebra/tensor/safetensors';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { ROOT } from '../src/api/packages.js';
import { mustRun } from './support/commands.js';
import { readmeExample } from './support/readme-example.js';

/** Examples in the READMEs of folders, run from source; the first of a package's runs in pack-and-install.test.ts. */
const TENSOR = join(ROOT, 'packages', 'tensor', 'src');

let folder: string;

beforeAll(async () => {
  // Inside the repository, so that packages are found.
  const parent = join(ROOT, 'out', 'test');
  await mkdir(parent, { recursive: true });
  folder = await mkdtemp(join(parent, 'docs-'));
  const tensors = [{ name: 'lm_head.weight', dtype: 'BF16', shape: [4, 3], data: new Float32Array(12) }] as const;
  await writeSafetensors(join(folder, 'model.safetensors'), tensors);
  await writeSafetensorsFolder(join(folder, 'my-model'), tensors);
});
afterAll(() => rm(folder, { recursive: true, force: true }));

/** Runs an example and gives what it printed. */
async function run(path: string, index: number): Promise<string> {
  await writeFile(join(folder, 'example.mjs'), readmeExample(path, index));
  const args = ['--conditions=@zebra/source', '--import', 'tsx', 'example.mjs'];
  return mustRun(process.execPath, args, { cwd: folder });
}

describe('examples', () => {
  it('of the trainer find the plane', async () => {
    const output = await run(join(TENSOR, 'train', 'README.md'), 0);
    const [a, b] = /Float32Array\(2\) \[ (\S+), (\S+) \]/.exec(output)!.slice(1).map(Number);
    expect(a).toBeCloseTo(3, 1);
    expect(b).toBeCloseTo(-1, 1);
  });

  it.each([0, 1])('of safetensors run: %d', async (index) => {
    await run(join(TENSOR, 'safetensors', 'README.md'), index);
  });

  it('of initialisation on a device reach the best error, and leave nothing', async () => {
    const output = await run(join(ROOT, 'packages', 'init', 'README.md'), 1);
    // Printed to four digits, of float32 products of 64 × 64.
    const [reached, smallest] = /error (\S+) of at least (\S+)/.exec(output)!.slice(1).map(Number);
    expect(smallest).toBeGreaterThan(0);
    expect(Math.abs(reached! / smallest! - 1)).toBeLessThan(2e-4);
    expect(output).toMatch(/^5 weights of MLA, 8 of Mamba2\n0 buffers left$/m);
  });

  it('of presets count the parameters of the smallest, and propose a hybrid', async () => {
    const output = await run(join(ROOT, 'packages', 'runtime', 'README.md'), 1);
    expect(output).toMatch(/^meta-llama\/Llama-3.2-1B-Instruct \[ 0, 5, 10, 14 \] 1285700736\n/);
    expect(output).toContain('"num_key_value_heads": 8');
  });
});
