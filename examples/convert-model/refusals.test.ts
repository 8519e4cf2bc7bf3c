import { cp, mkdtemp, rm, symlink, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { PUBLISHED_DISTILLATION, PUBLISHED_LAYER_DISTILLATION } from '@zebra/distill';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { computeDTypeOf } from './src/compute.js';
import { convertModel } from './src/convert-model.js';
import { readOptions } from './src/options.js';

const TEACHER = fileURLToPath(new URL('../train-teacher/teacher', import.meta.url));
const HYBRID = fileURLToPath(new URL('../convert/hybrid', import.meta.url));

let folder: string;
beforeAll(async () => {
  folder = await mkdtemp(join(tmpdir(), 'zebra-convert-refusals-'));
});
afterAll(() => rm(folder, { recursive: true }));

const START = ['model', '--out', 'o'];
const GOOD = [...START, '--ids', 'i'];

describe('a command line', () => {
  it('has the published rates where none are given', () => {
    expect(readOptions(GOOD)).toMatchObject({
      model: 'model',
      steps: 100,
      save: 'bfloat16',
      ropeRows: 'frequency-aware',
      layerLearningRate: PUBLISHED_LAYER_DISTILLATION['1B'].learningRate,
      learningRate: PUBLISHED_DISTILLATION['1B'].learningRate,
      checkpointEvery: 500,
      resume: false,
      adapter: 'auto',
    });
    expect(readOptions([...GOOD, '--layer-learning-rate', '1e-3'])).toMatchObject({
      layerLearningRate: 1e-3,
      learningRate: PUBLISHED_DISTILLATION['1B'].learningRate,
    });
    expect(readOptions(['--help'])).toBeUndefined();
  });

  it('needs no text where nothing is distilled', () => {
    expect(readOptions([...START, '--steps', '0'])).toMatchObject({ steps: 0, layerSteps: 0 });
    expect(() => readOptions([...START, '--steps', '0', '--layer-steps', '1'])).toThrow(/either --text FILE or --ids/);
  });

  it.each([
    [['--out', 'o', '--ids', 'i'], /one MODEL/],
    [['model', '--ids', 'i'], /--out FOLDER is missing/],
    [START, /either --text FILE or --ids FILE/],
    [[...GOOD, '--text', 't'], /either --text FILE or --ids FILE, not both/],
    [[...GOOD, '--preset', 'Zebra'], /--preset must be one of Zebra-Llama-1B/],
    [[...GOOD, '--mla-layers', '1,x'], /--mla-layers must be a whole number of at least 0, got x/],
    [[...GOOD, '--steps', '1.5'], /--steps must be a whole number of at least 0, got 1.5/],
    [[...GOOD, '--rows', '0'], /--rows must be a whole number of at least 1, got 0/],
    [[...GOOD, '--length', '1'], /--length must be a whole number of at least 2, got 1/],
    [[...GOOD, '--learning-rate', '0'], /--learning-rate must be a number above 0/],
    [[...GOOD, '--adapter', 'cuda'], /--adapter must be one of auto, .*got cuda/],
    [[...GOOD, '--nonsense'], /^Unknown option '--nonsense' \(--help lists the options\)$/],
  ])('is refused: %j', (args, message) => {
    expect(() => readOptions(args)).toThrow(message);
  });
});

describe('before anything is loaded', () => {
  const refused = async (model: string, args: readonly string[], message: RegExp) => {
    const lines: string[] = [];
    const options = readOptions([model, ...args, '--steps', '0'])!;
    await expect(convertModel(options, (line) => lines.push(line))).rejects.toThrow(message);
    expect(lines).toEqual([]);
  };

  it("--out that is the model's own folder is refused, by whatever path", async () => {
    const model = join(folder, 'model');
    await cp(TEACHER, model, { recursive: true });
    await symlink(model, join(folder, 'link'));
    for (const out of [model, join(folder, 'link'), join(folder, 'nowhere', '..', 'model')]) {
      await refused(model, ['--out', out], /is the folder of the model itself/);
    }
    await refused(join(folder, 'link'), ['--out', model], /is the folder of the model itself/);
  });

  it('models that are none, hybrids, and presets for another model are refused by name', async () => {
    const out = ['--out', join(folder, 'out')];
    await refused('examples/no/model', out, /examples\/no\/model: no such folder, and not a hub name/);
    await refused('./nothing', out, /no such folder, and not a hub name/);
    await refused(HYBRID, out, /is a hybrid already/);
    const preset = ['--preset', 'Zebra-Llama-1B-4MLA-12Mamba'];
    await refused(
      TEACHER,
      [...out, ...preset],
      /--preset Zebra-Llama-1B-4MLA-12Mamba does not fit .*layerCount 16 and not 12/,
    );
  });

  it('a text that cannot be read is named', async () => {
    const out = ['--out', join(folder, 'out')];
    await refused(TEACHER, [...out, '--text', join(folder, 'nope.txt')], /--text .*nope.txt cannot be read: ENOENT/);
    await writeFile(join(folder, 'empty.txt'), '\n\n');
    await refused(TEACHER, [...out, '--text', join(folder, 'empty.txt')], /holds no document of two tokens/);
  });
});

it('computes in float16 on GPUs that have it, and refuses it where there is none', () => {
  const info = { description: 'a GPU', vendor: 'v', float16: true, software: false };
  expect(computeDTypeOf(info)).toBe('float16');
  expect(computeDTypeOf({ ...info, software: true })).toBe('float32');
  expect(computeDTypeOf({ ...info, software: true }, 'float16')).toBe('float16');
  expect(computeDTypeOf({ ...info, float16: false })).toBe('float32');
  expect(() => computeDTypeOf({ ...info, float16: false }, 'float16')).toThrow(
    /a GPU lacks shader-f16.*--compute float32/,
  );
});
