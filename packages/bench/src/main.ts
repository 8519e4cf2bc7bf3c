import { parseArgs } from 'node:util';
import { type AdapterChoice, type DeviceInfo, openDevice } from '@zebra/tensor';
import { COLD_START_OPTION, startCold } from './benchmarks/cold-start.js';
import { benchmarks } from './benchmarks/index.js';
import { peak } from './benchmarks/peak.js';
import { type Change, compareRow, confirmed, describeChanges, keyOf } from './report/compare.js';
import { withPrefix } from './report/format.js';
import { peerOf, readPeers } from './report/peers.js';
import { currentCommit, describeHost, type ResultFile, readResult, writeResult } from './report/result-file.js';
import { makeTable } from './report/table.js';
import { defaultScale, type Scale } from './runner/case.js';
import type { Budget } from './runner/measure.js';
import { measurePeaks } from './runner/measure-peaks.js';
import { makeRow, type Row } from './runner/row.js';
import { runCase } from './runner/run-case.js';

const USAGE = `npm run bench -- [--only NAME]… [--json FILE] [--against FILE] [--peers FILE] [--adapter auto|hardware|software|swiftshader] [--size small|large] [--seconds N]

  --only NAME     only the benchmarks whose name begins so: ${benchmarks.map(({ name }) => name).join(', ')}
  --json FILE     writes the results
  --against FILE  compares with results that --json wrote, and marks what changed beyond the noise
  --peers FILE    adds the share of a peer's speed, as baselines/torch_baselines.py measured it
  --size          sizes for a CPU or for a GPU; default by the adapter
  --seconds N     time for each row, warm-up not counted; default 1`;

const { values } = parseArgs({
  options: {
    only: { type: 'string', multiple: true },
    json: { type: 'string' },
    against: { type: 'string' },
    peers: { type: 'string' },
    adapter: { type: 'string', default: 'auto' },
    size: { type: 'string' },
    seconds: { type: 'string', default: '1' },
    // A process that this command starts to measure.
    [COLD_START_OPTION]: { type: 'string' },
    help: { type: 'boolean', default: false },
  },
});
const { only, size } = values;
const seconds = Number(values.seconds);
const chosen = benchmarks.filter(({ name }) => !only || only.some((prefix) => name.startsWith(prefix)));
const adapters: readonly string[] = ['auto', 'hardware', 'software', 'swiftshader'] satisfies AdapterChoice[];
const known = adapters.includes(values.adapter) && (size === undefined || size === 'small' || size === 'large');
if (values.help || chosen.length === 0 || !known || !(seconds > 0)) {
  console.log(USAGE);
  process.exit(values.help ? 0 : 2);
}

const stop = (error: Error): never => {
  console.error(error.message);
  process.exit(2);
};
const earlier = values.against ? await readResult(values.against).catch(stop) : undefined;
const peers = values.peers ? await readPeers(values.peers).catch(stop) : undefined;
const host = describeHost();
const adapter = values.adapter as AdapterChoice;
const scaleOf = (info: DeviceInfo): Scale => ({ ...defaultScale(info), ...(size && { large: size === 'large' }) });
const coldStart = values[COLD_START_OPTION];
if (coldStart !== undefined) {
  await startCold(adapter, scaleOf, coldStart);
  process.exit();
}
const device = await openDevice({ adapter });
const begun = performance.now();
const scale = scaleOf(device.info);
const budget: Budget = {
  total: 1000 * seconds,
  sample: 40,
  warm: device.info.software ? 0 : 200,
  minSamples: 3,
  maxSamples: 200,
};

const cases = chosen.flatMap(({ name, cases: of }) => of(scale).map((one) => ({ name, one })));
const labels = cases.map(({ name, one }) => ({ name, shape: one.shape }));
const table = makeTable([...peak.cases(scale).map(({ shape }) => ({ name: peak.name, shape })), ...labels], {
  compared: earlier !== undefined,
  peers: peers !== undefined,
  software: device.info.software,
});
const measure = device.info.software ? 'cpu' : 'median';
const rows: Row[] = [];
const changes = new Map<string, Change>();
const skipped: { name: string; shape: string; why: string }[] = [];
const failures: { name: string; shape: string; message: string }[] = [];
const adapterName = (info: ResultFile['adapter']) => info.description || `${info.vendor} ${info.architecture}`;

console.log(
  `${adapterName(device.info)} (${device.info.software ? 'software' : 'hardware'}), ${host.cores} CPU cores, load ${host.load.toFixed(1)}`,
);
if (host.load > host.cores / 2) console.log('other programs keep this machine busy: times, shares and marks are rough');
if (earlier) {
  console.log(`against ${values.against}${earlier.commit ? `, commit ${earlier.commit}` : ''}`);
  if (adapterName(earlier.adapter) !== adapterName(device.info)) {
    console.log(`that ran on another adapter, ${adapterName(earlier.adapter)}: changes say nothing about the code`);
  }
}
if (peers) console.log(`beside ${peers.peer} on ${peers.adapter}${peers.date ? `, ${peers.date}` : ''}`);
console.log(['', ...table.header].join('\n'));

const peaks = await measurePeaks(device, scale, budget, print, fail);
for (const { name, one } of cases) {
  if (one.skip !== undefined) {
    skipped.push({ name, shape: one.shape, why: one.skip });
    console.log(table.skipped(name, one.shape, one.skip));
    continue;
  }
  try {
    print(makeRow(name, one.shape, one.work, await runCase(device, one, budget), peaks));
  } catch (error) {
    fail(name, one.shape, error);
  }
}

await confirmChanges();

const arithmetic = Object.entries(peaks.arithmetic).map(
  ([precision, rate]) => `${withPrefix(rate, 'FLOP/s')} ${precision}`,
);
console.log(`
floors: ${withPrefix(peaks.bandwidth, 'B/s')}, ${arithmetic.join(', ')}, the best of the rows "peak"
${rows.length} rows in ${((performance.now() - begun) / 1000).toFixed(0)} s${skipped.length > 0 ? `, ${skipped.length} skipped` : ''}${failures.length > 0 ? `, ${failures.length} failed` : ''}; how to read them: packages/bench/README.md`);
if (earlier) console.log(['', ...describeChanges([...changes.values()])].join('\n'));
if (values.json) {
  const commit = await currentCommit();
  await writeResult(values.json, {
    adapter: device.info,
    host,
    date: new Date().toISOString(),
    ...(commit && { commit }),
    peaks,
    ...(peers && { peers: { peer: peers.peer, adapter: peers.adapter, ...(peers.date && { date: peers.date }) } }),
    rows,
    ...(skipped.length > 0 && { skipped }),
    ...(failures.length > 0 && { failures }),
  });
}
device.destroy();
process.exit(failures.length > 0 ? 1 : 0);

/** Measures again what seems to have changed: a change stands only where it is there at another time, too. */
async function confirmChanges(): Promise<void> {
  const doubtful = cases.filter(({ name, one }) => {
    const change = changes.get(keyOf({ name, shape: one.shape }));
    // A case that takes its own samples has no others to give.
    return change && change.verdict !== 'same' && !one.sample;
  });
  if (doubtful.length > 0) console.log(`\nagain, what seems to have changed:`);
  for (const { name, one } of doubtful) {
    const key = keyOf({ name, shape: one.shape });
    const first = changes.get(key)!;
    try {
      const row = makeRow(name, one.shape, one.work, await runCase(device, one, budget), peaks);
      const second = compareRow(row, first.before, measure);
      console.log(table.line(row, second));
      changes.set(key, confirmed(first, second));
    } catch (error) {
      fail(name, one.shape, error);
    }
  }
}

function print(measured: Row): void {
  const peer = peers && peerOf(peers, measured);
  const row: Row = { ...measured, ...(peer && { peer }) };
  rows.push(row);
  const before = earlier?.rows.find((other) => keyOf(other) === keyOf(row));
  const change = before && compareRow(row, before, measure);
  if (change) changes.set(keyOf(row), change);
  console.log(table.line(row, change));
}

function fail(name: string, shape: string, error: unknown): void {
  const { message } = error as Error;
  failures.push({ name, shape, message });
  console.log(table.failed(name, shape, message));
}
