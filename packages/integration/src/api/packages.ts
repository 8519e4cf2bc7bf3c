import { readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';

/** The repository's root. */
export const ROOT = fileURLToPath(new URL('../../../..', import.meta.url));

/** One way to import a package. */
interface EntryPoint {
  /** `@zebra/tensor/nn`. */
  readonly specifier: string;
  /** Absolute path of its source. */
  readonly source: string;
  /** Absolute path of its built declarations. */
  readonly declarations: string;
}

/** A package that is published. */
export interface PublishedPackage {
  /** `tensor`. */
  readonly folder: string;
  /** `@zebra/tensor`. */
  readonly name: string;
  readonly path: string;
  /** Names of the `@zebra/*` packages that it needs, directly or not. */
  readonly needs: readonly string[];
  readonly entryPoints: readonly EntryPoint[];
}

interface Manifest {
  readonly name: string;
  readonly private?: boolean;
  readonly dependencies?: Readonly<Record<string, string>>;
  readonly exports?: Readonly<Record<string, string | { readonly '@zebra/source': string; readonly types: string }>>;
}

/** Every package under `packages/` that is not private. */
export function publishedPackages(): PublishedPackage[] {
  const manifests = new Map<string, { folder: string; manifest: Manifest }>();
  for (const folder of readdirSync(join(ROOT, 'packages')).sort()) {
    const manifest = JSON.parse(readFileSync(join(ROOT, 'packages', folder, 'package.json'), 'utf8')) as Manifest;
    if (!manifest.private) manifests.set(manifest.name, { folder, manifest });
  }
  const needs = (name: string): string[] =>
    Object.keys(manifests.get(name)?.manifest.dependencies ?? {})
      .filter((other) => manifests.has(other))
      .flatMap((other) => [other, ...needs(other)]);
  return [...manifests].map(([name, { folder, manifest }]) => {
    const path = join(ROOT, 'packages', folder);
    return { folder, name, path, needs: [...new Set(needs(name))], entryPoints: entryPointsOf(path, manifest) };
  });
}

function entryPointsOf(path: string, { name, exports = {} }: Manifest): EntryPoint[] {
  return Object.entries(exports).flatMap(([subpath, target]) => {
    if (typeof target === 'string') return [];
    const specifier = join(name, subpath);
    return [{ specifier, source: join(path, target['@zebra/source']), declarations: join(path, target.types) }];
  });
}
