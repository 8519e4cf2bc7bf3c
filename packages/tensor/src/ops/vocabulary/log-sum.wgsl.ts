import type { KernelVariant } from '../../device/kernel.js';
import { rowLoop } from '../row/row-lanes.wgsl.js';
import { LOWEST } from './selection.js';

/**
 * WGSL that gives `<name>_high`, the maximum of a row, and `<name>_log`, log Σ exp(x − maximum), for one or more rows
 * side by side, reading each once: a lane keeps the maximum so far and the sum of exponentials against it, and brings
 * the sum down where the maximum grows. Needs `row_max` and `row_sum`.
 *
 * @param streams name → expression of the row's unit at `c`
 * @param stop where the rows end, in units
 */
export function logSums(
  variant: KernelVariant,
  streams: Readonly<Record<string, (c: string) => string>>,
  stop: string,
): string {
  const names = Object.keys(streams);
  const pairwise = (parts: readonly string[], join: (a: string, b: string) => string): string => {
    if (parts.length === 1) return parts[0]!;
    const half = parts.length / 2;
    return join(pairwise(parts.slice(0, half), join), pairwise(parts.slice(half), join));
  };
  const loop = rowLoop(variant, stop, (ks) =>
    [
      ...names.flatMap((name) => ks.map((k) => `let ${name}${k} = ${streams[name]!(`c${k}`)};`)),
      ...names.map((name) => {
        const values = ks.map((k) => `${name}${k}`);
        const exponentials = values.map((value) => `exp(${value} - ${name}_next)`);
        return `
      let ${name}_next = max(${name}_top, highest(${pairwise(values, (a, b) => `max(${a}, ${b})`)}));
      ${name}_sums = ${name}_sums * exp(${name}_top - ${name}_next) + ${pairwise(exponentials, (a, b) => `(${a} + ${b})`)};
      ${name}_top = ${name}_next;`;
      }),
    ].join('\n      '),
  );
  return /* wgsl */ `
${names.map((name) => `  var ${name}_top = ${LOWEST};\n  var ${name}_sums = F(0);`).join('\n')}
${loop}
${names
  .map(
    (name) => `  let ${name}_high = row_max(${name}_top, lid);
  let ${name}_log = log(row_sum(total(${name}_sums) * exp(${name}_top - ${name}_high), lid));`,
  )
  .join('\n')}`;
}
