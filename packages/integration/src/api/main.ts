// Writes test/api/<package>.txt, the public names of every published package, from their sources: `npm run api -w @zebra/integration`.
import { mkdir, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { exportedNames } from './exported-names.js';
import { publishedPackages } from './packages.js';
import { formatSnapshot } from './snapshot.js';

const folder = fileURLToPath(new URL('../../test/api', import.meta.url));
await mkdir(folder, { recursive: true });
const packages = publishedPackages();
const names = exportedNames(
  packages.flatMap(({ entryPoints }) => entryPoints.map(({ source }) => source)),
  ['@zebra/source'],
);
let at = 0;
for (const { folder: name, entryPoints } of packages) {
  const entries = entryPoints.map(({ specifier }) => [specifier, names[at++]!] as const);
  await writeFile(join(folder, `${name}.txt`), formatSnapshot(entries));
  console.log(
    `${name}.txt: ${entries.map(([specifier, found]) => `${specifier} ${found.values.length} + ${found.types.length}`).join(', ')}`,
  );
}
