import { type DeviceInfo, openDevice } from '@zebra/tensor';
import { startCold } from './benchmarks/cold-start.js';
import { peak } from './benchmarks/peak.js';
import { readOptions, USAGE } from './options.js';
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

const stop = (error: Error): never => {
  console.error(error.message);
  process.exit(2);
};
const options = read();
if (options === undefined) {
  console.log(USAGE);
  process.exit();
}
const { chosen, adapter, size, seconds, coldStart } = options;
const earlier = options.against ? await readResult(options.against).catch(stop) : undefined;
const peers = options.peers ? await readPeers(options.peers).catch(stop) : undefined;
const host = describeHost();
const scaleOf = (info: DeviceInfo): Scale => ({ ...defaultScale(info), ...(size && { large: size === 'large' }) });
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
  console.log(`against ${options.against}${earlier.commit ? `, commit ${earlier.commit}` : ''}`);
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
if (options.json) {
  const commit = await currentCommit();
  await writeResult(options.json, {
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

function read() {
  try {
    return readOptions(process.argv.slice(2));
  } catch (error) {
    return stop(error as Error);
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
