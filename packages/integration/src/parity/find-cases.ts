import { readdir, stat } from 'node:fs/promises';
import { join } from 'node:path';
import type { Device } from '@zebra/tensor';
import { Golden } from './golden.js';
import { checkInitialisation } from './init-case.js';
import { checkLayer } from './layer-case.js';
import { checkLosses } from './losses-case.js';
import { checkModel } from './model-case.js';
import type { ParityRow } from './row.js';

/** What weights and activations are held in. */
export type ParityDType = 'float32' | 'float16';

/** A golden folder and how to check it. */
export interface ParityCase {
  readonly name: string;
  /** In float16 outputs alone are checked: initialisation, losses on given numbers and optimizer steps are float32 matters. */
  readonly run: (device: Device, dtype?: ParityDType) => Promise<ParityRow[]>;
  /** Whether there is anything to check in float16. */
  readonly hasOutputs: boolean;
  /** What of a case with outputs is checked in float32 alone. */
  readonly float32Only?: readonly string[];
}

/** Files of a model's folder whose checks are made in float32 alone. */
const FLOAT32_FILES: readonly (readonly [file: string, check: string])[] = [
  ['grads.safetensors', 'gradients'],
  ['greedy.json', 'greedy tokens'],
  ['train10.json', 'AdamW steps'],
  ['kd10.json', 'distillation steps'],
];

/** What float16 leaves out of cases that it checks, with the number of cases of each; empty where that is nothing. */
export function leftOut(cases: readonly ParityCase[]): string {
  const counts = new Map<string, number>();
  for (const { float32Only = [] } of cases) {
    for (const check of float32Only) counts.set(check, (counts.get(check) ?? 0) + 1);
  }
  return [...counts].map(([check, count]) => `${check} (${count} ${count === 1 ? 'case' : 'cases'})`).join(', ');
}

/** Finds every golden folder below a root by the files it holds. */
export async function findCases(root: string, under = ''): Promise<ParityCase[]> {
  const names = (await readdir(join(root, under))).sort();
  // Links are followed: a folder that is one must not go unnoticed.
  const entries = await Promise.all(
    names.map(async (name) => ({ name, isFolder: (await stat(join(root, under, name))).isDirectory() })),
  );
  const files = new Set(entries.filter((entry) => !entry.isFolder).map((entry) => entry.name));
  const cases: ParityCase[] = [];
  if (files.size > 0) cases.push(await recognise(root, under, files));
  for (const { name } of entries.filter((entry) => entry.isFolder)) {
    cases.push(...(await findCases(root, join(under, name))));
  }
  return cases;
}

async function recognise(root: string, name: string, files: ReadonlySet<string>): Promise<ParityCase> {
  const folder = join(root, name);
  if (files.has('model.safetensors')) {
    const float32Only = FLOAT32_FILES.flatMap(([file, check]) => (files.has(file) ? [check] : []));
    return {
      name,
      hasOutputs: true,
      float32Only,
      run: (device, dtype) => checkModel(device, name, folder, files, dtype),
    };
  }
  if (files.has('weights.safetensors')) {
    const float32Only = ['gradients', 'recurrences in float64'];
    return { name, hasOutputs: true, float32Only, run: (device, dtype) => checkLayer(device, name, folder, dtype) };
  }
  if (files.has('golden.safetensors')) {
    const golden = await Golden.read(folder, 'golden.safetensors');
    if (golden.has('kv_product'))
      return { name, hasOutputs: false, run: () => checkInitialisation(name, folder, root) };
    if (golden.has('student_logits'))
      return { name, hasOutputs: false, run: (device) => checkLosses(device, name, folder) };
  }
  // A folder nobody can check must not pass for one that agrees.
  return {
    name,
    hasOutputs: true,
    run: async () => [
      {
        case: name,
        check: `not recognised: ${[...files].join(', ')}`,
        error: Number.POSITIVE_INFINITY,
        tolerance: 0,
        passed: false,
      },
    ],
  };
}
