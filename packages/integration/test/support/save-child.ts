/** Run by the checkpoint tests in a process of its own, and killed there: saves one model after the other into a folder. */
import { saveModel } from '@zebra/runtime';
import { testDevice } from '@zebra/tensor/testing';
import { CONFIGS, smallModel } from './small-model.js';

const folder = process.argv[2]!;
const model = smallModel(await testDevice(), 'mla-mamba2');
for (let generation = 1; ; generation++) {
  // Every weight of a model holds its number, so that a mixture of two would show.
  for (const weight of model.namedParameters().values()) weight.write(new Float32Array(weight.size).fill(generation));
  await saveModel(folder, model, model.spec, { configJson: CONFIGS['mla-mamba2'], maxShardBytes: 20_000 });
  process.stdout.write(`${generation}\n`);
}
