import { writeFile } from 'node:fs/promises';
import { parseArgs } from 'node:util';
import { type AdapterChoice, openDevice } from '@zebra/tensor';
import { findCases } from './find-cases.js';
import { lossOfFolder } from './model-folder.js';
import { compared, type ParityRow, TOLERANCE } from './row.js';

const USAGE = `npm run parity -- [--goldens DIR] [--model DIR [--text TEXT] [--expect NATS]] [--json FILE] [--adapter auto|hardware|software|swiftshader] [--kernels native|hardware|matrix] [--dtype float32|float16]

  --goldens DIR  every golden case below DIR
  --dtype        float32: outputs, gradients, optimizer steps, initialisation, losses; float16: outputs with float16
                 weights and activations against the float32 goldens, on an adapter with shader-f16
  --kernels      the kernels meant for the adapter, or those meant for hardware GPUs whatever it is; matrix: those
                 for GPUs with matrix units, which are emulated where the adapter has none
  --model DIR    loads a Hugging Face folder by name and prints its next-token loss on TEXT (default: a sentence that
                 stories260k is known by, 1.25104); with --expect it is held to that`;

const { values } = parseArgs({
  options: {
    goldens: { type: 'string' },
    model: { type: 'string' },
    text: { type: 'string' },
    expect: { type: 'string' },
    json: { type: 'string' },
    adapter: { type: 'string', default: 'auto' },
    kernels: { type: 'string', default: 'native' },
    dtype: { type: 'string', default: 'float32' },
  },
});
const { dtype } = values;
if ((!values.goldens && !values.model) || (dtype !== 'float32' && dtype !== 'float16')) {
  console.error(USAGE);
  process.exit(2);
}

const device = await openDevice({
  adapter: values.adapter as AdapterChoice,
  poison: true,
  ...(values.kernels !== 'native' && { software: false, emulateMatrixUnits: values.kernels === 'matrix' }),
});
console.log(
  `on ${device.info.description || device.info.vendor}, ${device.info.software ? 'software' : 'hardware'}, in ${dtype}`,
);
if (dtype === 'float16' && !device.info.float16) {
  console.error('parity: this adapter cannot compute in float16 (it lacks shader-f16)');
  process.exit(2);
}
const rows: ParityRow[] = [];

if (values.goldens) {
  const cases = await findCases(values.goldens);
  if (cases.length === 0) throw new Error(`parity: no golden case below ${values.goldens}`);
  const relevant = dtype === 'float16' ? cases.filter(({ hasOutputs }) => hasOutputs) : cases;
  if (relevant.length < cases.length)
    console.log(`${cases.length - relevant.length} cases of ${cases.length} are float32 matters and left out`);
  for (const { name, run } of relevant) {
    const found = await run(device, dtype).catch((error: Error): ParityRow[] => [
      { case: name, check: `failed: ${error.message}`, error: Number.POSITIVE_INFINITY, tolerance: 0, passed: false },
    ]);
    for (const row of found) print(row);
    rows.push(...found);
  }
}
if (values.model) {
  const { nats, predictions } = await lossOfFolder(device, values.model, {
    dtype,
    ...(values.text !== undefined && { text: values.text }),
  });
  console.log(`${values.model}: ${nats.toFixed(5)} nats a token over ${predictions} predictions`);
  const passed = Number.isFinite(nats);
  if (!passed) rows.push({ case: values.model, check: 'loss is finite', error: nats, tolerance: 0, passed });
  if (values.expect !== undefined) {
    const row = compared(values.model, 'loss on the text', [nats], [Number(values.expect)], TOLERANCE.steps);
    print(row);
    rows.push(row);
  }
}

const failed = rows.filter((row) => !row.passed);
if (rows.length > 0) console.log(`${rows.length - failed.length} of ${rows.length} within tolerance`);
if (values.json) await writeFile(values.json, `${JSON.stringify({ adapter: device.info, rows }, undefined, 2)}\n`);
device.destroy();
process.exit(failed.length > 0 ? 1 : 0);

function print(row: ParityRow): void {
  const error = Number.isFinite(row.error) ? row.error.toExponential(1) : '∞';
  console.log(
    `${row.passed ? 'ok  ' : 'FAIL'} ${row.case.padEnd(34)} ${error.padStart(8)} (≤ ${row.tolerance.toExponential(0)})  ${row.check}`,
  );
}
