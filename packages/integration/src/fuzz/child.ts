// Runs a range of cases and says before each which one it is, so that the parent knows which case killed or stopped it.
import { writeSync } from 'node:fs';
import { CaseRunner } from './run-case.js';

const [seed, from, to] = process.argv.slice(2).map(Number) as [number, number, number];
const runner = new CaseRunner();
const tell = (message: object) => writeSync(3, `${JSON.stringify(message)}\n`);
// The libraries below warn on the console of parts that they don't know.
for (const method of ['log', 'warn', 'error', 'info'] as const) console[method] = () => {};

for (let index = from; index < to; index++) {
  tell({ start: index });
  tell({ end: index, ...(await runner.run(seed, index)) });
}
tell({ memory: process.resourceUsage().maxRSS * 1024 });
runner.close();
