import { linearMain } from '../../device/kernel.js';

/** Elements that one invocation handles in the vector variant: a load costs as much for four as for one. */
export const LANES = 4;

/** Whether tensors of this size can be read as 4-vectors from end to end. */
export function takesVectors(size: number): boolean {
  return size % LANES === 0;
}

/**
 * An entry point that applies a scalar expression to every element of same-shaped tensors.
 *
 * @param inputs name in the expression → binding
 * @param output binding
 * @param vector four elements an invocation; the bindings must then be declared as 4-vectors, and `p.count` counts those
 */
export function pointwiseMain(
  inputs: Readonly<Record<string, string>>,
  output: string,
  expression: string,
  vector: boolean,
): string {
  const names = Object.keys(inputs);
  const at = `fn at(${names.map((name) => `${name}: f32`).join(', ')}) -> f32 { return ${expression}; }\n`;
  if (!vector) {
    const values = Object.values(inputs).map((binding) => `f32(${binding}[i])`);
    return at + linearMain('p.count', `  ${output}[i] = ${output}_t(at(${values.join(', ')}));`);
  }
  const loads = Object.entries(inputs).map(([name, binding]) => `  let ${name} = vec4<f32>(${binding}[i]);`);
  const lanes = ['x', 'y', 'z', 'w'].map((lane) => `at(${names.map((name) => `${name}.${lane}`).join(', ')})`);
  return (
    at + linearMain('p.count', `${loads.join('\n')}\n  ${output}[i] = ${output}_t(vec4<f32>(${lanes.join(', ')}));`)
  );
}

/** Declares all of a kernel's bindings as 4-vectors in its vector variant. */
export function vectorsWhere(names: readonly string[]) {
  return ({ constants }: { readonly constants: Readonly<Record<string, unknown>> }): Record<string, 4> =>
    constants['vector'] ? Object.fromEntries(names.map((name) => [name, 4 as const])) : {};
}
