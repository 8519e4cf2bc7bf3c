import { expect, it } from 'vitest';
import { ROOT } from '../src/api/packages.js';
import { runCommand } from './support/commands.js';

it('npm run check refuses a step that there is none of, and names those there are', async () => {
  const { code, output } = await runCommand(process.execPath, ['scripts/check.mjs', 'types', 'tpyes'], { cwd: ROOT });
  expect(code).not.toBe(0);
  expect(output).toMatch(/no step begins with tpyes.*types, boundaries/);
  expect(output).not.toMatch(/all checks passed/);
});
