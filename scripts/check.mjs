// Format, lint, types, package boundaries, package checks and unused exports: one row a step, the output of what failed.
//   node scripts/check.mjs [STEP ...]     only the steps whose name begins so
import { spawn } from 'node:child_process';
import { readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';

const root = fileURLToPath(new URL('..', import.meta.url));
const env = { ...process.env, NO_COLOR: '1', FORCE_COLOR: '0', TURBO_TELEMETRY_DISABLED: '1', DO_NOT_TRACK: '1' };
const bin = (name) => join(root, 'node_modules', '.bin', name);

const published = readdirSync(join(root, 'packages'), { withFileTypes: true })
  .filter((entry) => entry.isDirectory())
  .map((entry) => ({ name: entry.name, path: join(root, 'packages', entry.name) }))
  .filter(({ path }) => !JSON.parse(readFileSync(join(path, 'package.json'), 'utf8')).private);

/** Each step is [name, command, arguments, needs the build]. */
const steps = [
  ['format+lint', bin('biome'), ['ci', '--colors=off', '--error-on-warnings', '--max-diagnostics=200', '.']],
  ['types', bin('tsc'), ['--noEmit', '-p', 'tsconfig.json']],
  ['boundaries', bin('turbo'), ['boundaries']],
  ['unused', bin('knip'), ['--no-progress', '--no-config-hints']],
  ['build', bin('turbo'), ['run', 'build', '--output-logs=errors-only']],
  ...published.flatMap(({ name, path }) => [
    [`publint ${name}`, bin('publint'), ['run', path, '--strict'], true],
    [`attw ${name}`, bin('attw'), ['--pack', path, '--profile', 'esm-only', '--no-emoji'], true],
  ]),
];

function run(command, args) {
  const child = spawn(command, args, { cwd: root, env, stdio: ['ignore', 'pipe', 'pipe'] });
  let output = '';
  child.stdout.on('data', (chunk) => (output += chunk));
  child.stderr.on('data', (chunk) => (output += chunk));
  return new Promise((resolve) => {
    child.on('error', (error) => resolve({ ok: false, output: String(error) }));
    child.on('close', (code) => resolve({ ok: code === 0, output }));
  });
}

const only = process.argv.slice(2);
const unknown = only.filter((prefix) => !steps.some(([name]) => name.startsWith(prefix)));
if (unknown.length > 0) {
  console.error(
    `check: no step begins with ${unknown.join(', ')}. There are ${steps.map(([name]) => name).join(', ')}.`,
  );
  process.exit(2);
}
const failed = [];
let built = true;
for (const [name, command, args, needsBuild] of steps) {
  if (only.length > 0 && !only.some((prefix) => name.startsWith(prefix))) continue;
  const started = performance.now();
  const { ok, output } =
    needsBuild && !built ? { ok: false, output: 'not run: the build failed' } : await run(command, args);
  if (name === 'build') built = ok;
  console.log(
    `${ok ? 'ok  ' : 'FAIL'}  ${name.padEnd(18)} ${((performance.now() - started) / 1000).toFixed(1).padStart(6)} s`,
  );
  if (!ok) {
    failed.push(name);
    console.log(output.trimEnd().replace(/^/gm, '      '));
  }
}
console.log(failed.length === 0 ? 'all checks passed' : `${failed.length} failed: ${failed.join(', ')}`);
process.exitCode = failed.length === 0 ? 0 : 1;
