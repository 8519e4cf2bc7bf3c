import { readFileSync } from 'node:fs';
import ts from 'typescript';

/**
 * A JavaScript or TypeScript example of a README, by default the first, as a module that Node 20 runs.
 *
 * @throws Error where there is none
 */
export function readmeExample(path: string, index = 0): string {
  const text = readFileSync(path, 'utf8');
  const examples = [...text.matchAll(/^```(?:ts|js|typescript|javascript)\n(.*?)^```/gms)];
  const code = examples[index]?.[1];
  if (!code) throw new Error(`${path} has ${examples.length} examples, none of number ${index}`);
  // Strips types, and lowers `using`.
  return ts.transpileModule(code, {
    compilerOptions: { target: ts.ScriptTarget.ES2022, module: ts.ModuleKind.ESNext },
  }).outputText;
}
