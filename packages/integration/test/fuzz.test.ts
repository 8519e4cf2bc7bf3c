import { afterAll, beforeAll, expect, it, vi } from 'vitest';
import { CaseRunner, caseInput, TARGETS } from '../src/fuzz/run-case.js';

// A run of any size, each part of it in a process of its own: `npm run fuzz -w @zebra/integration`.
const CASES = 2500;
const SEED = 1;

let runner: CaseRunner;
beforeAll(() => {
  runner = new CaseRunner();
  // The tokenizer's library warns on the console of parts that it doesn't know.
  vi.spyOn(console, 'warn').mockImplementation(() => {});
});
afterAll(() => {
  runner.close();
  vi.restoreAllMocks();
});

it('malformed files of every kind end in our errors, or are valid', async () => {
  const defects: string[] = [];
  const outcomes = new Map<string, Set<string>>();
  for (let index = 0; index < CASES; index++) {
    const { target, outcome, defect } = await runner.run(SEED, index);
    if (outcome === undefined) defects.push(`case ${index} (${target}): ${defect}`);
    else outcomes.set(target, (outcomes.get(target) ?? new Set()).add(outcome));
  }
  expect(defects).toEqual([]);
  // Cases that are all refused at the first look, or all valid, would try nothing.
  for (const { name } of TARGETS) {
    expect(outcomes.get(name)).toContain('valid');
    expect(outcomes.get(name)!.size).toBeGreaterThan(1);
  }
});

it('a case is the same whenever it is made, and no other', () => {
  const texts = Array.from({ length: 50 }, (_, index) => JSON.stringify(caseInput(9, index)));
  expect(Array.from({ length: 50 }, (_, index) => JSON.stringify(caseInput(9, index)))).toEqual(texts);
  expect(new Set(texts).size).toBeGreaterThan(45);
  expect(JSON.stringify(caseInput(10, 0))).not.toBe(texts[0]);
});
