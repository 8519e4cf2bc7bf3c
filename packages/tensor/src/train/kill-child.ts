/** Run by the checkpoint tests in a process of its own, and killed there: trains slowly, saving every other step. */
import { setTimeout } from 'node:timers/promises';
import { testDevice } from '../testing/index.js';
import { appendMetrics } from './metrics-file.js';
import { regression } from './test-run.js';
import { train } from './train.js';

const folder = process.argv[2]!;
const { options } = regression(await testDevice(), { steps: 1000, checkpoint: { folder, every: 2 } });
await using file = await appendMetrics(`${folder}/metrics.jsonl`);
for await (const metrics of train(options)) {
  await file.write(metrics);
  await setTimeout(10);
}
