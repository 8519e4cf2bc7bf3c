import { runDemo } from './src/demo.js';
import { type DemoOptions, readOptions, USAGE } from './src/options.js';
import { Progress } from './src/progress.js';
import { reportText } from './src/table.js';

const progress = new Progress(process.stderr);
try {
  const options = readOptions(process.argv.slice(2));
  if (options) await demo(options);
  else console.log(USAGE);
} catch (error) {
  progress.clear();
  // A stack says nothing to who mistyped an option or lacks an adapter.
  console.error(process.env.DEBUG ? error : `error: ${(error as Error).message}`);
  process.exitCode = 1;
}
// Dawn would keep the process alive; what was written must be out first.
process.stdout.write('', () => process.exit());

async function demo(options: DemoOptions): Promise<void> {
  const report = await runDemo(options, { show: (state) => progress.show(state) });
  progress.clear();
  console.log(reportText(report));
}
