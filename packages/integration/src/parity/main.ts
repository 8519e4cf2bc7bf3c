import { writeFile } from 'node:fs/promises';
import { type Device, openDevice, ZebraError } from '@zebra/tensor';
import { SafetensorsError } from '@zebra/tensor/safetensors';
import { findCases, leftOut } from './find-cases.js';
import { lossOfFolder } from './model-folder.js';
import { assertFolder, type ParityOptions, readOptions, USAGE } from './options.js';
import { compared, type ParityRow, TOLERANCE } from './row.js';

try {
  const options = readOptions(process.argv.slice(2));
  if (options === undefined) console.log(USAGE);
  else process.exitCode = (await run(options)) ? 0 : 1;
} catch (error) {
  // The library's own errors say what is wrong; a stack would only bury that.
  if (!ZebraError.is(error) && !SafetensorsError.is(error)) throw error;
  console.error(error.message);
  process.exitCode = 2;
}

/** Whether everything is within tolerance. */
async function run(options: ParityOptions): Promise<boolean> {
  const { goldens, model, adapter, kernels, dtype } = options;
  if (goldens !== undefined) await assertFolder('goldens', goldens);
  if (model !== undefined) await assertFolder('model', model);
  const device = await openDevice({
    adapter,
    poison: true,
    ...(kernels !== 'native' && { software: false, emulateMatrixUnits: kernels === 'matrix' }),
  });
  try {
    console.log(
      `on ${device.info.description || device.info.vendor}, ${device.info.software ? 'software' : 'hardware'}, in ${dtype}`,
    );
    if (dtype === 'float16' && !device.info.float16) {
      throw new ZebraError('device', 'parity: this adapter cannot compute in float16 (it lacks shader-f16)');
    }
    const rows: ParityRow[] = [];
    if (goldens !== undefined) rows.push(...(await checkGoldens(device, goldens, options)));
    if (model !== undefined) rows.push(...(await checkLoss(device, model, options)));
    const failed = rows.filter((row) => !row.passed);
    if (rows.length > 0) console.log(`${rows.length - failed.length} of ${rows.length} within tolerance`);
    if (options.json) {
      await writeFile(options.json, `${JSON.stringify({ adapter: device.info, rows }, undefined, 2)}\n`);
    }
    return failed.length === 0;
  } finally {
    device.destroy();
  }
}

async function checkGoldens(device: Device, goldens: string, { dtype }: ParityOptions): Promise<ParityRow[]> {
  const cases = await findCases(goldens);
  if (cases.length === 0) throw new ZebraError('io', `parity: no golden case below ${goldens}`);
  const relevant = dtype === 'float16' ? cases.filter(({ hasOutputs }) => hasOutputs) : cases;
  if (relevant.length < cases.length) {
    console.log(`${cases.length - relevant.length} cases of ${cases.length} are float32 matters and left out`);
  }
  const unchecked = dtype === 'float16' ? leftOut(relevant) : '';
  if (unchecked) console.log(`of the others these are left out in float16: ${unchecked}`);
  const rows: ParityRow[] = [];
  for (const { name, run: check } of relevant) {
    const found = await check(device, dtype).catch((error: Error): ParityRow[] => [
      { case: name, check: `failed: ${error.message}`, error: Number.POSITIVE_INFINITY, tolerance: 0, passed: false },
    ]);
    for (const row of found) print(row);
    rows.push(...found);
  }
  return rows;
}

/** The loss of a model on a text; a row where it is held to something, or is not finite. */
async function checkLoss(device: Device, model: string, { dtype, text, expect }: ParityOptions): Promise<ParityRow[]> {
  const { nats, predictions } = await lossOfFolder(device, model, { dtype, ...(text !== undefined && { text }) });
  console.log(`${model}: ${nats.toFixed(5)} nats a token over ${predictions} predictions`);
  const rows: ParityRow[] = [];
  if (!Number.isFinite(nats)) {
    rows.push({ case: model, check: 'loss is finite', error: nats, tolerance: 0, passed: false });
  }
  if (expect !== undefined) rows.push(compared(model, 'loss on the text', [nats], [expect], TOLERANCE.steps));
  for (const row of rows) print(row);
  return rows;
}

function print(row: ParityRow): void {
  const error = Number.isFinite(row.error) ? row.error.toExponential(1) : '∞';
  console.log(
    `${row.passed ? 'ok  ' : 'FAIL'} ${row.case.padEnd(34)} ${error.padStart(8)} (≤ ${row.tolerance.toExponential(0)})  ${row.check}`,
  );
}
