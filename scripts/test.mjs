// Runs vitest (arguments are passed through) and ends with one line: `N passed, N failed`.
import { spawn } from 'node:child_process';
import { mkdirSync, readFileSync, rmSync } from 'node:fs';
import { dirname, join, relative } from 'node:path';
import { fileURLToPath } from 'node:url';

const root = join(dirname(fileURLToPath(import.meta.url)), '..');
const resultFile = join(root, 'out', 'test', `results-${process.pid}.json`);
const vitest = join(root, 'node_modules', 'vitest', 'vitest.mjs');

function runVitest() {
  const args = ['run', '--reporter=default', '--reporter=json', `--outputFile.json=${resultFile}`];
  const child = spawn(process.execPath, [vitest, ...args, ...process.argv.slice(2)], { cwd: root, stdio: 'inherit' });
  for (const signal of ['SIGINT', 'SIGTERM']) process.on(signal, () => child.kill(signal));
  return new Promise((resolve) => {
    child.on('error', (error) => resolve({ code: 1, reason: `vitest did not start: ${error.message}` }));
    child.on('close', (code, signal) =>
      resolve({ code: code ?? 1, reason: signal && `vitest was ended by ${signal}` }),
    );
  });
}

function readResult() {
  try {
    return JSON.parse(readFileSync(resultFile, 'utf8'));
  } catch {
    return undefined;
  }
}

/** Counts tests; a file that failed before or outside its tests counts as one failure of its own. */
function count(result) {
  const counts = { passed: 0, failed: 0, skipped: 0 };
  for (const file of result.testResults) {
    let failedHere = 0;
    for (const test of file.assertionResults) {
      if (test.status === 'passed') counts.passed++;
      else if (test.status === 'failed') failedHere++;
      else counts.skipped++;
    }
    if (file.status === 'failed' && failedHere === 0) {
      failedHere = 1;
      console.error(`${relative(root, file.name)} failed outside its tests: ${file.message ?? ''}`);
    }
    counts.failed += failedHere;
  }
  return counts;
}

mkdirSync(dirname(resultFile), { recursive: true });
const { code, reason } = await runVitest();
const result = readResult();
rmSync(resultFile, { force: true });

const { passed, failed, skipped } = result ? count(result) : { passed: 0, failed: 0, skipped: 0 };
let failures = failed;
if (failed === 0 && (code !== 0 || !result)) {
  failures = 1;
  console.error(reason ?? `vitest exited with code ${code}${result ? '' : ' and left no result'}`);
}
if (passed + failures === 0) console.error('no test ran');
if (skipped > 0) console.log(`${skipped} skipped: this adapter lacks what they test (none of them counts as passed)`);
console.log(`${passed} passed, ${failures} failed`);
process.exitCode = failures > 0 || passed === 0 ? 1 : 0;
