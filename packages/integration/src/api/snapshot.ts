import type { ExportedNames } from './exported-names.js';

/** The exports of a package's entry points as text: a line a name, types marked. */
export function formatSnapshot(entries: readonly (readonly [specifier: string, names: ExportedNames])[]): string {
  return entries
    .map(([specifier, { values, types }]) => {
      const lines = [...values.map((name) => `  ${name}`), ...types.map((name) => `  type ${name}`)];
      return `${specifier}\n${lines.join('\n')}\n`;
    })
    .join('\n');
}

/** The inverse of {@link formatSnapshot}. */
export function parseSnapshot(text: string): Map<string, ExportedNames> {
  const found = new Map<string, { values: string[]; types: string[] }>();
  let current = { values: [] as string[], types: [] as string[] };
  for (const line of text.split('\n').filter((each) => each !== '')) {
    if (!line.startsWith('  ')) {
      current = { values: [], types: [] };
      found.set(line, current);
    } else if (line.startsWith('  type ')) current.types.push(line.slice(7));
    else current.values.push(line.slice(2));
  }
  return found;
}
