import { readFileSync } from 'node:fs';
import { expect, it, vi } from 'vitest';

const file = (path: string) => readFileSync(new URL(path, import.meta.url), 'utf8');

it("the README's example runs", async () => {
  // The README shows it without types, as plain JavaScript.
  const script = file('./readme-example.ts').replace('(count: number)', '(count)');
  expect(file('../README.md')).toContain(script.trim());
  const log = vi.spyOn(console, 'log').mockImplementation(() => {});
  await import('./readme-example.js');
  const lines = log.mock.calls.map(([line]) => String(line));
  log.mockRestore();
  expect(lines[0]).toMatch(/^loss \d\.\d+(e-\d+)?, 8 gradients$/);
  expect(lines[1]).toBe('y has shape [2,1,64], the state takes 12288 bytes');
});
