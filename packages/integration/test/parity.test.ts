import { execFile } from 'node:child_process';
import { cp, mkdir, readFile, symlink, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { testDevice } from '@zebra/tensor/testing';
import { describe, expect, it } from 'vitest';
import { findCases, leftOut, type ParityDType } from '../src/parity/find-cases.js';
import { readOptions } from '../src/parity/options.js';
import type { ParityRow } from '../src/parity/row.js';
import { editJson, setElement, withFolder } from './support/folders.js';

const GOLDENS = fileURLToPath(new URL('goldens', import.meta.url));
const hasFloat16 = (await testDevice()).info.float16;
const ROOT = fileURLToPath(new URL('../../..', import.meta.url));

async function rowsOf(root: string, dtype?: ParityDType): Promise<ParityRow[]> {
  const device = await testDevice();
  const live = device.statistics().liveBuffers;
  const rows: ParityRow[] = [];
  for (const { run } of await findCases(root)) rows.push(...(await run(device, dtype)));
  expect(device.statistics().liveBuffers).toBe(live);
  return rows;
}

describe('the goldens of this package', () => {
  it('all hold, and every kind of check is among them', async () => {
    const rows = await rowsOf(GOLDENS);
    expect(rows.filter((row) => !row.passed)).toEqual([]);
    const checks = rows.map((row) => `${row.case}: ${row.check.replace(/:.*/, '')}`);
    const each = [
      'hidden states',
      'logits',
      'ce_loss',
      'greedy tokens',
      'losses of ten AdamW steps',
      'gradient norms of ten steps',
    ];
    const models = ['llama-tiny', 'qwen2-tiny', 'qwen3-tiny'];
    expect(checks).toEqual(models.flatMap((model) => each.map((check) => `${model}: ${check}`)));
  });

  it.skipIf(!hasFloat16)('hold in float16 too: outputs of models with float16 weights that compute in it', async () => {
    const rows = await rowsOf(GOLDENS, 'float16');
    expect(rows.filter((row) => !row.passed)).toEqual([]);
    expect(new Set(rows.map((row) => row.check.replace(/:.*/, '')))).toEqual(
      new Set(['hidden states', 'logits', 'ce_loss']),
    );
    // They are not the float32 outputs by another name.
    for (const row of rows.filter(({ check }) => check === 'logits')) expect(row.error).toBeGreaterThan(2e-5);
    await withFolder(async (root) => {
      await cp(join(GOLDENS, 'qwen2-tiny'), join(root, 'case'), { recursive: true });
      await setElement(join(root, 'case', 'golden.safetensors'), 'logits', 77, 1e4);
      const failed = (await rowsOf(root, 'float16')).filter((row) => !row.passed);
      expect(failed.map((row) => row.check)).toEqual(['logits']);
    });
  });

  it.each([
    ['a logit', 'logits', (folder: string) => setElement(join(folder, 'golden.safetensors'), 'logits', 77, 3)],
    [
      'a hidden state',
      'hidden states',
      (folder: string) => setElement(join(folder, 'golden.safetensors'), 'hidden_states.2', 5, 3),
    ],
    [
      'a loss of the training run',
      'losses of ten AdamW steps',
      (folder: string) =>
        editJson(join(folder, 'train10.json'), ({ loss_gradnorm_per_step: steps }) => {
          (steps as number[][])[7]![0]! *= 1.002;
        }),
    ],
    [
      'a token of the continuation',
      'greedy tokens',
      (folder: string) =>
        editJson(join(folder, 'greedy.json'), ({ tokens }) => {
          (tokens as number[])[3]! += 1;
        }),
    ],
  ])('fail where %s is another, and only there', async (_, check, change) => {
    await withFolder(async (root) => {
      await cp(join(GOLDENS, 'qwen2-tiny'), join(root, 'case'), { recursive: true });
      await change(join(root, 'case'));
      const failed = (await rowsOf(root)).filter((row) => !row.passed);
      expect(failed.map((row) => row.check.replace(/:.*/, ''))).toEqual([check]);
    });
  });
});

describe('cases', () => {
  it('are found by listing, at any depth and through links', async () => {
    await withFolder(async (root) => {
      await mkdir(join(root, 'a', 'b'), { recursive: true });
      await mkdir(join(root, 'elsewhere'));
      await cp(join(GOLDENS, 'llama-tiny', 'config.json'), join(root, 'a', 'b', 'config.json'));
      await symlink(GOLDENS, join(root, 'linked'));
      const names = (await findCases(root)).map(({ name }) => name);
      expect(names).toEqual(['a/b', 'linked/llama-tiny', 'linked/qwen2-tiny', 'linked/qwen3-tiny']);
    });
  });

  it('that nobody can check fail', async () => {
    await withFolder(async (root) => {
      await mkdir(join(root, 'odd'));
      await writeFile(join(root, 'odd', 'notes.txt'), 'x');
      expect(await rowsOf(root)).toMatchObject([{ case: 'odd', check: /not recognised: notes.txt/, passed: false }]);
    });
  });

  it('with weights but nothing to compare them with fail', async () => {
    await withFolder(async (root) => {
      for (const file of ['config.json', 'model.safetensors'])
        await cp(join(GOLDENS, 'llama-tiny', file), join(root, 'model', file));
      const rows = await rowsOf(root);
      expect(rows.some((row) => !row.passed)).toBe(true);
    });
  });
});

describe('the command', () => {
  it.each([
    [[], /give --goldens DIR/],
    [['--goldens', 'g', '--adapter', 'cuda'], /--adapter must be auto, .*got cuda/],
    [['--goldens', 'g', '--kernels', 'matrics'], /--kernels must be native, .*got matrics/],
    [['--goldens', 'g', '--dtype', 'bfloat16'], /--dtype must be float32, float16, got bfloat16/],
    [['--goldens', 'g', '--expect', 'x'], /--expect must be a number, got x/],
    [['--golden', 'g'], /Unknown option '--golden' \(--help lists/],
  ])('refuses %j', (args, message) => {
    expect(() => readOptions(args)).toThrow(message);
  });

  it('says in one line what is wrong with a folder, and gives help where it is asked for', async () => {
    await withFolder(async (root) => {
      await mkdir(join(root, 'empty'));
      for (const [option, folder, message] of [
        ['--goldens', 'nowhere', /--goldens .*nowhere cannot be listed: ENOENT/],
        ['--goldens', 'empty', /no golden case below .*empty/],
        ['--model', 'empty', /empty/],
      ] as const) {
        const { code, output } = await parity(option, join(root, folder));
        expect(output.trim().split('\n').at(-1)).toMatch(message);
        expect(output).not.toMatch(/\n\s+at /);
        expect(code).toBe(2);
      }
      expect(await parity('--help')).toMatchObject({ code: 0, output: /--kernels {6}the kernels meant/ });
    });
  });

  it('says what float16 leaves out of cases that it checks', async () => {
    expect(leftOut(await findCases(GOLDENS))).toBe('greedy tokens (3 cases), AdamW steps (3 cases)');
  });

  it('exits with 1, with a row a failed case, where a case is broken or unknown', async () => {
    await withFolder(async (root) => {
      await mkdir(join(root, 'broken'));
      await mkdir(join(root, 'unknown'));
      await writeFile(join(root, 'broken', 'model.safetensors'), 'not a model');
      await writeFile(join(root, 'unknown', 'notes.txt'), 'x');
      const json = join(root, 'rows.json');
      const args = ['run', '--silent', 'parity', '--', '--goldens', root, '--json', json];
      const { code, output } = await command('npm', args);
      expect(code).toBe(1);
      expect(output).toMatch(/0 of 2 within tolerance/);
      const { rows } = JSON.parse(await readFile(json, 'utf8')) as { rows: ParityRow[] };
      expect(rows.map((row) => [row.case, row.passed])).toEqual([
        ['broken', false],
        ['unknown', false],
      ]);
    });
  });
});

function parity(...args: readonly string[]) {
  const main = fileURLToPath(new URL('../src/parity/main.ts', import.meta.url));
  return command(process.execPath, ['--conditions=@zebra/source', '--import', 'tsx', main, ...args]);
}

function command(file: string, args: readonly string[]): Promise<{ code: number; output: string }> {
  return new Promise((resolve) => {
    execFile(file, args, { cwd: ROOT, env: process.env }, (error, stdout, stderr) => {
      resolve({ code: error ? Number(error.code) : 0, output: stdout + stderr });
    });
  });
}
