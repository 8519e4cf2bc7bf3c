import { spawn } from 'node:child_process';
import { mkdirSync, writeFileSync } from 'node:fs';
import { dirname, join, resolve } from 'node:path';
import { createInterface } from 'node:readline';
import type { Readable } from 'node:stream';
import { fileURLToPath } from 'node:url';
import { parseArgs } from 'node:util';
import { type CaseResult, caseInput } from './run-case.js';

const USAGE = `npm run fuzz -w @zebra/integration -- [--cases N] [--seed N] [--from N] [--json FILE] [--out DIR]

  --cases  how many inputs (default 10000)
  --seed   the same seed gives the same inputs (default 1)
  --from   number of the first case: --from 1234 --cases 1 runs one case again
  --json   writes counts and defects to a file
  --out    folder for inputs that fail (default out/fuzz)`;

const { values } = parseArgs({
  options: {
    cases: { type: 'string', default: '10000' },
    seed: { type: 'string', default: '1' },
    from: { type: 'string', default: '0' },
    json: { type: 'string' },
    out: { type: 'string', default: 'out/fuzz' },
    help: { type: 'boolean' },
  },
});
const [cases, seed, from] = [values.cases, values.seed, values.from].map(Number) as [number, number, number];
if (values.help || ![cases, seed, from].every((value) => Number.isSafeInteger(value) && value >= 0)) {
  console.log(USAGE);
  process.exit(values.help ? 0 : 2);
}

/** Wall-clock time without a sign of life after which a case counts as hanging. */
const HANG_MS = 120_000;
/** A child lives for so many cases, so that memory that one leaves behind shows, and does not add up for ever. */
const CASES_A_CHILD = 5000;
const HEAP_MB = 512;

interface Defect {
  readonly case: number;
  readonly target: string;
  readonly defect: string;
}

// Where the command was given, which npm leaves for the package's folder.
const base = process.env.INIT_CWD ?? process.cwd();
const out = resolve(base, values.out);
const counts = new Map<string, Map<string, number>>();
const defects: Defect[] = [];
const slowest = { case: -1, target: '', milliseconds: 0 };
let done = 0;
let peakMemory = 0;
const started = performance.now();

let next = from;
while (next < from + cases) {
  const to = Math.min(next + CASES_A_CHILD, from + cases);
  const { last, ended, reason } = await runChild(next, to);
  if (ended) next = to;
  else {
    // Before its first case there is nothing to blame a case for.
    if (last < next) throw new Error(`fuzz: the process that runs cases did not start: ${reason}`);
    note(last, { target: caseInput(seed, last).target.name, outcome: undefined, defect: reason, milliseconds: 0 });
    next = last + 1;
  }
}

const seconds = (performance.now() - started) / 1000;
process.stdout.write('\r\x1b[K');
for (const [target, outcomes] of [...counts].sort()) {
  const total = [...outcomes.values()].reduce((sum, count) => sum + count, 0);
  const list = [...outcomes].sort(([, a], [, b]) => b - a).map(([outcome, count]) => `${outcome} ${count}`);
  console.log(`${target.padEnd(14)} ${String(total).padStart(6)}  ${list.join(', ')}`);
}
console.log(
  `${done} cases in ${seconds.toFixed(0)} s; slowest ${slowest.milliseconds.toFixed(0)} ms (case ${slowest.case}, ${slowest.target}); peak memory ${(peakMemory / 1e6).toFixed(0)} MB`,
);
console.log(`${defects.length} defects${defects.length > 0 ? `; their inputs are in ${out}` : ''}`);
if (values.json) {
  const file = resolve(base, values.json);
  mkdirSync(dirname(file), { recursive: true });
  const table = Object.fromEntries([...counts].map(([target, outcomes]) => [target, Object.fromEntries(outcomes)]));
  const report = { seed, from, cases: done, seconds, slowest, peakMemory, counts: table, defects };
  writeFileSync(file, `${JSON.stringify(report, undefined, 2)}\n`);
}
process.exitCode = defects.length === 0 && done === cases ? 0 : 1;

function note(index: number, { target, outcome, defect, milliseconds }: CaseResult): void {
  done++;
  const outcomes = counts.get(target) ?? new Map<string, number>();
  counts.set(target, outcomes);
  const key = outcome ?? 'DEFECT';
  outcomes.set(key, (outcomes.get(key) ?? 0) + 1);
  if (milliseconds > slowest.milliseconds) Object.assign(slowest, { case: index, target, milliseconds });
  if (outcome === undefined) {
    const text = defect ?? 'unknown';
    defects.push({ case: index, target, defect: text });
    const folder = join(out, `${target}-${seed}-${index}`);
    mkdirSync(folder, { recursive: true });
    for (const [name, content] of Object.entries(caseInput(seed, index).files))
      writeFileSync(join(folder, name), content);
    writeFileSync(join(folder, 'defect.txt'), `${text}\n`);
    process.stdout.write('\r\x1b[K');
    console.log(`DEFECT case ${index} (${target}): ${text.split('\n').slice(0, 2).join(' ')}`);
  }
  if (done % 500 === 0 && process.stdout.isTTY) {
    const rate = done / ((performance.now() - started) / 1000);
    process.stdout.write(
      `\r\x1b[K${done}/${cases}  ${rate.toFixed(0)} cases/s  ${((cases - done) / rate).toFixed(0)} s left  ${defects.length} defects`,
    );
  }
}

/** Runs cases in a process of its own until they are done, or one of them ends or stops it. */
function runChild(first: number, end: number): Promise<{ last: number; ended: boolean; reason: string }> {
  const script = fileURLToPath(new URL('child.ts', import.meta.url));
  const flags = [`--max-old-space-size=${HEAP_MB}`, '--conditions=@zebra/source', '--import', 'tsx'];
  const child = spawn(process.execPath, [...flags, script, String(seed), String(first), String(end)], {
    cwd: dirname(script),
    stdio: ['ignore', 'ignore', 'pipe', 'pipe'],
  });
  let last = first - 1;
  let finished = 0;
  let hung = false;
  let errors = '';
  let watch: NodeJS.Timeout | undefined;
  const alive = () => {
    clearTimeout(watch);
    watch = setTimeout(() => {
      hung = true;
      child.kill('SIGKILL');
    }, HANG_MS);
  };
  alive();
  child.stderr!.on('data', (text) => {
    errors = (errors + text).slice(-2000);
  });
  const lines = createInterface({ input: child.stdio[3] as Readable });
  lines.on('line', (line) => {
    alive();
    const message = JSON.parse(line) as { start?: number; end?: number; memory?: number } & CaseResult;
    if (message.start !== undefined) last = message.start;
    else if (message.memory !== undefined) peakMemory = Math.max(peakMemory, message.memory);
    else {
      finished++;
      note(message.end!, message);
    }
  });
  return new Promise((done, fail) => {
    child.on('error', fail);
    child.on('close', (code, signal) => {
      clearTimeout(watch);
      const reason = hung
        ? `no sign of life for ${HANG_MS / 1000} s`
        : `the process ended with ${signal ?? code}: ${errors.slice(-500)}`;
      done({ last, ended: code === 0 && finished === end - first, reason });
    });
  });
}
