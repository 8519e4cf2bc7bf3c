import { blockMain, type KernelVariant } from '../../device/kernel.js';

/** Elements that one invocation handles in the vector variant: a load costs as much for four as for one. */
export const LANES = 4;

/** Whether tensors of this size can be read as 4-vectors from end to end. */
export function takesVectors(size: number): boolean {
  return size % LANES === 0;
}

/**
 * An entry point that applies a scalar expression to every element of same-shaped tensors; dispatch `blockGroups`
 * workgroups for it. Where the variant's constant `vector` is set, an item is four elements: the bindings must then be
 * declared as 4-vectors, and `p.count` counts those.
 *
 * @param inputs name in the expression → binding
 * @param output binding
 */
export function pointwiseMain(
  variant: Pick<KernelVariant, 'software' | 'constants'>,
  inputs: Readonly<Record<string, string>>,
  output: string,
  expression: string,
): string {
  const names = Object.keys(inputs);
  const type = variant.constants['vector'] ? 'vec4<f32>' : 'f32';
  const value = (k: number): string => {
    if (type === 'f32') return `at(${names.map((name) => `${name}${k}`).join(', ')})`;
    const lanes = ['x', 'y', 'z', 'w'].map((lane) => `at(${names.map((name) => `${name}${k}.${lane}`).join(', ')})`);
    return `vec4<f32>(${lanes.join(', ')})`;
  };
  return (
    `fn at(${names.map((name) => `${name}: f32`).join(', ')}) -> f32 { return ${expression}; }\n` +
    blockMain(variant, 'p.count', (indices) =>
      [
        ...indices.flatMap((i, k) =>
          Object.entries(inputs).map(([name, binding]) => `  let ${name}${k} = ${type}(${binding}[${i}]);`),
        ),
        ...indices.map((i, k) => `  ${output}[${i}] = ${output}_t(${value(k)});`),
      ].join('\n'),
    )
  );
}

/** Declares all of a kernel's bindings as 4-vectors in its vector variant. */
export function vectorsWhere(names: readonly string[]) {
  return ({ constants }: { readonly constants: Readonly<Record<string, unknown>> }): Record<string, 4> =>
    constants['vector'] ? Object.fromEntries(names.map((name) => [name, 4 as const])) : {};
}
