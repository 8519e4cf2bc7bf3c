import { mkdir, mkdtemp, readdir, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { exportedNames } from '../src/api/exported-names.js';
import { type PublishedPackage, publishedPackages, ROOT } from '../src/api/packages.js';
import { parseSnapshot } from '../src/api/snapshot.js';
import { mustRun, runCommand } from './support/commands.js';
import { readmeExample } from './support/readme-example.js';

/** What a user gets: the packages as they would be published, installed into an empty project, with nothing of ours near. */

const packages = publishedPackages();
const softwareGpu = process.platform === 'linux' && process.arch === 'x64';
const tarballs = new Map<string, { file: string; contents: string[] }>();
let folder: string;
let project: string;

interface Packed {
  readonly name: string;
  readonly filename: string;
  readonly files: readonly { readonly path: string }[];
}

beforeAll(async () => {
  folder = await mkdtemp(join(tmpdir(), 'zebra-install-'));
  project = join(folder, 'project');
  const turbo = join(ROOT, 'node_modules', '.bin', 'turbo');
  const quiet = { TURBO_TELEMETRY_DISABLED: '1', DO_NOT_TRACK: '1' };
  await mustRun(turbo, ['run', 'build', '--output-logs=errors-only'], { cwd: ROOT, env: quiet });
  const workspaces = packages.flatMap(({ name }) => ['--workspace', name]);
  const args = ['pack', '--json', '--ignore-scripts', '--pack-destination', folder, ...workspaces];
  const packed = JSON.parse(await mustRun('npm', args, { cwd: ROOT })) as readonly Packed[] | Record<string, Packed>;
  for (const { name, filename, files } of Object.values(packed)) {
    tarballs.set(name, { file: join(folder, filename), contents: files.map(({ path }) => path) });
  }
}, 300_000);

afterAll(async () => {
  await rm(folder, { recursive: true, force: true });
});

/**
 * Installs a package with what it needs. All of them take turns in one project, which npm each time turns into what a
 * fresh one would be; so the GPU's binaries, 200 MB, are unpacked once.
 */
async function install({ name, needs }: PublishedPackage): Promise<void> {
  const root = JSON.parse(await readFile(join(ROOT, 'package.json'), 'utf8')) as {
    devDependencies: Record<string, string>;
  };
  const ours = [name, ...needs].map((each) => [each, `file:${tarballs.get(each)!.file}`]);
  const gpu = softwareGpu ? [['@sparticuz/chromium', root.devDependencies['@sparticuz/chromium']!]] : [];
  const dependencies = Object.fromEntries([...ours, ...gpu]);
  await mkdir(project, { recursive: true });
  await rm(join(project, 'package-lock.json'), { force: true });
  await rm(join(project, 'node_modules', '@zebra'), { recursive: true, force: true });
  await writeFile(join(project, 'package.json'), JSON.stringify({ name: 'empty', private: true, dependencies }));
  await mustRun('npm', ['install', '--prefer-offline', '--no-audit', '--no-fund'], { cwd: project });
}

describe.each(packages)('$name', (each) => {
  beforeAll(() => install(each), 180_000);

  it('is packed with its build, README and licence, and no sources or tests', () => {
    const { contents } = tarballs.get(each.name)!;
    expect(contents).toEqual(expect.arrayContaining(['LICENSE', 'README.md', 'package.json', 'dist/index.js']));
    expect(
      contents.filter((path) => !/^(LICENSE|README\.md|package\.json|dist\/.*\.(js|js\.map|d\.ts))$/.test(path)),
    ).toEqual([]);
    expect(contents.filter((path) => /\.test\./.test(path))).toEqual([]);
  });

  it('exports exactly the names of its snapshot', async () => {
    const text = await readFile(fileURLToPath(new URL(`api/${each.folder}.txt`, import.meta.url)), 'utf8');
    const expected = parseSnapshot(text);
    const specifiers = each.entryPoints.map(({ specifier }) => specifier);
    expect([...expected.keys()]).toEqual(specifiers);
    const script = `
      const all = {};
      for (const specifier of ${JSON.stringify(specifiers)}) all[specifier] = Object.keys(await import(specifier));
      process.stdout.write(JSON.stringify(all));`;
    await writeFile(join(project, 'names.mjs'), script);
    const found = JSON.parse(await mustRun(process.execPath, ['names.mjs'], { cwd: project })) as Record<
      string,
      string[]
    >;
    for (const specifier of specifiers) {
      expect(found[specifier]!.sort(), specifier).toEqual(expected.get(specifier)!.values);
    }
    const declarations = each.entryPoints.map(({ declarations: file }) =>
      join(project, 'node_modules', each.name, file.slice(each.path.length)),
    );
    exportedNames(declarations, []).forEach((names, i) => {
      expect(names, specifiers[i]).toEqual(expected.get(specifiers[i]!));
    });
  });

  // WebGPU's types come with TypeScript 6's DOM library, or from @webgpu/types, or not at all. What one package shows of
  // them, all others have from it, so that the slow pass over the DOM library is made once.
  it.each([
    ['without the DOM and WebGPU types', ['ES2022'], 'unknown'] as const,
    ...(each.folder === 'tensor' ? [['with the DOM', ['ES2022', 'DOM'], 'GPUDevice'] as const] : []),
  ])('compiles in a strict project that checks libraries, %s', async (_, lib, gpu) => {
    const imports = each.entryPoints.map(({ specifier }, i) => `export * as part${i} from '${specifier}';`);
    // What is said to be the device's type, and nothing wider: `any` would not do.
    const same = `type Same<A, B> = (<T>() => T extends A ? 1 : 2) extends <T>() => T extends B ? 1 : 2 ? true : false;
      export const same: Same<import('@zebra/tensor').Device['gpu'], ${gpu}> = true;`;
    await writeFile(join(project, 'consumer.mts'), [...imports, same].join('\n'));
    const compilerOptions = {
      target: 'ES2022',
      lib,
      types: ['node'],
      typeRoots: [join(ROOT, 'node_modules', '@types')],
      module: 'NodeNext',
      strict: true,
      skipLibCheck: false,
      noEmit: true,
    };
    await writeFile(join(project, 'tsconfig.json'), JSON.stringify({ compilerOptions, files: ['consumer.mts'] }));
    const tsc = join(ROOT, 'node_modules', 'typescript', 'bin', 'tsc');
    const { output } = await runCommand(process.execPath, [tsc, '-p', '.'], { cwd: project });
    expect(output).toBe('');
  });

  it("runs its README's example", async () => {
    await writeFile(join(project, 'example.mjs'), readmeExample(join(each.path, 'README.md')));
    const { code, output } = await runCommand(process.execPath, ['example.mjs'], { cwd: project });
    expect({ code, output }).toMatchObject({ code: 0 });
    expect(output.trim()).not.toBe('');
    expect(output).not.toMatch(/NaN|undefined/);
  });

  it('brings in no second copy of a package of ours', async () => {
    const scope = await readdir(join(project, 'node_modules', '@zebra'));
    expect(scope.map((name) => `@zebra/${name}`).sort()).toEqual([each.name, ...each.needs].sort());
    for (const name of scope) {
      const nested = await readdir(join(project, 'node_modules', '@zebra', name));
      expect(nested).not.toContain('node_modules');
    }
  });

  // The longest of the examples; elsewhere there is no software GPU to fall back on.
  if (softwareGpu && each.folder === 'runtime') {
    it('runs its example with no Vulkan driver on the machine', async () => {
      const env = { VK_DRIVER_FILES: '/nowhere.json', VK_ICD_FILENAMES: '/nowhere.json' };
      const script = `import { openDevice } from '@zebra/tensor';
        const device = await openDevice();
        console.log(device.info.description);
        device.destroy();`;
      await writeFile(join(project, 'adapter.mjs'), script);
      expect(await mustRun(process.execPath, ['adapter.mjs'], { cwd: project, env })).toMatch(/SwiftShader/);
      await mustRun(process.execPath, ['example.mjs'], { cwd: project, env });
    });
  }
});
