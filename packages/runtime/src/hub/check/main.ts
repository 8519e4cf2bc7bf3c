/**
 * Whether a model has one loss by every way there is to it: its folder, saved and loaded again, through a hub.
 *
 *   node --conditions=@zebra/source --import tsx packages/runtime/src/hub/check/main.ts FOLDER
 */
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { openDevice } from '@zebra/tensor';
import { lossesByPath } from './same-loss.js';

const [folder] = process.argv.slice(2);
if (folder === undefined) {
  process.stderr.write('expected the folder of a model\n');
  process.exit(2);
}
const work = await mkdtemp(join(tmpdir(), 'zebra-check-'));
const device = await openDevice();
try {
  const losses = Object.entries(await lossesByPath(device, folder, work));
  for (const [way, nats] of losses) process.stdout.write(`${way.padEnd(8)} ${nats} nats a token\n`);
  const same = new Set(losses.map(([, nats]) => nats)).size === 1 && losses.every(([, nats]) => Number.isFinite(nats));
  process.stdout.write(same ? 'the same bit for bit\n' : 'NOT the same\n');
  process.exitCode = same ? 0 : 1;
} finally {
  await rm(work, { recursive: true, force: true });
  device.destroy();
}
