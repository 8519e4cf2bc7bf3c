import { mkdtemp, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { generateText, loadModel, loadTokenizer } from '@zebra/runtime';
import { testDevice } from '@zebra/tensor/testing';
import { expect, it } from 'vitest';
import { convertModel } from './src/convert-model.js';
import { documentsOfIds } from './src/documents.js';
import { readOptions } from './src/options.js';

const TEACHER = fileURLToPath(new URL('../train-teacher/teacher', import.meta.url));
const LAYERS = '0,5,11';

it('makes a hybrid of a checkpoint that loads and talks, closer to its teacher with every stage', async () => {
  const folder = await mkdtemp(join(tmpdir(), 'zebra-convert-model-'));
  const text = join(folder, 'text.txt');
  const speech = 'The people of the United States are strong, and the state of our union is strong.';
  await writeFile(text, Array.from({ length: 30 }, (_, i) => `${speech} We meet for the ${i}th time.`).join('\n\n'));
  const out = join(folder, 'hybrid');
  const size = [
    '--rows',
    '1',
    '--length',
    '64',
    '--learning-rate',
    '3e-3',
    '--layer-learning-rate',
    '3e-3',
    '--compute',
    'float32',
  ];
  const stages = ['--layer-steps', '6', '--steps', '6'];
  const options = readOptions([TEACHER, '--out', out, '--text', text, '--mla-layers', LAYERS, ...size, ...stages])!;
  const lines: string[] = [];
  await convertModel(options, (line) => lines.push(line));

  const report = JSON.parse(await readFile(join(out, 'report.json'), 'utf8'));
  expect(report.stages.map(({ name }: { name: string }) => name)).toEqual([
    'load and initialise',
    'load the teacher',
    'distil layers',
    'distil end to end',
    'save',
  ]);
  for (const stage of report.stages) {
    expect(stage.seconds).toBeGreaterThan(0);
    if (stage.lastLoss !== undefined) expect(stage.lastLoss).toBeLessThan(stage.firstLoss);
  }
  // The sizes of a small model are not rounded away.
  expect(lines.join('\n')).toMatch(/distil end to end .*device [1-9][0-9.]* MiB, .*firstLoss/);

  using model = await loadModel(await testDevice(), out);
  expect(model.spec.layers.flatMap((kind, layer) => (kind === 'mla' ? [layer] : []))).toEqual([0, 5, 11]);
  const tokenizer = await loadTokenizer(out);
  const [said] = await generateText(model, tokenizer, [tokenizer.encode('The people')], { maxNewTokens: 5 });
  expect(said!.ids.length).toBeGreaterThan(0);
  await rm(folder, { recursive: true });
});

it('reads token ids, document by document', async () => {
  const folder = await mkdtemp(join(tmpdir(), 'zebra-convert-ids-'));
  const file = join(folder, 'ids.bin');
  await writeFile(file, new Uint8Array(Int32Array.of(1, 2, 3, -1, 4, -1, 5, 6).buffer));
  // A document of one token predicts nothing.
  expect((await documentsOfIds(file)).map((document) => [...document])).toEqual([
    [1, 2, 3],
    [5, 6],
  ]);
  await writeFile(file, new Uint8Array(5));
  await expect(documentsOfIds(file)).rejects.toThrow(/no whole number/);
  await rm(folder, { recursive: true });
});
