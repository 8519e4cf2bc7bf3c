import { ZebraError } from '../errors.js';

const FILES = ['libvk_swiftshader.so', 'libvulkan.so.1', 'vk_swiftshader_icd.json'];

/**
 * Makes the SwiftShader that ships inside the npm package `@sparticuz/chromium` the process's Vulkan driver: unpacks
 * it to a cache folder, points the Vulkan loader at it, and maps the loader that comes with it where the system has
 * none. Must run before Dawn first looks for Vulkan. Linux x64 only.
 *
 * @returns false where the package cannot be resolved or the platform is another one
 */
export async function installSwiftShader(): Promise<boolean> {
  if (process.platform !== 'linux' || process.arch !== 'x64') return false;
  const archive = await findArchive();
  if (!archive) return false;
  const { join } = await import('node:path');
  const folder = await unpack(archive);
  const icd = join(folder, 'vk_swiftshader_icd.json');
  process.env['VK_DRIVER_FILES'] = icd;
  process.env['VK_ICD_FILENAMES'] = icd;
  const { constants } = await import('node:os');
  try {
    // RTLD_DEEPBIND stays off; 0x1000 is RTLD_NODELETE. dlopen of a plain library throws after mapping it: that is enough.
    process.dlopen({ exports: {} }, join(folder, 'libvulkan.so.1'), constants.dlopen.RTLD_NOW | 0x1000);
  } catch {
    // "Module did not self-register": the library is mapped, and Dawn's dlopen by name finds it.
  }
  return true;
}

async function findArchive(): Promise<string | undefined> {
  const { createRequire } = await import('node:module');
  const { existsSync } = await import('node:fs');
  const { dirname, join } = await import('node:path');
  const { pathToFileURL } = await import('node:url');
  // The library's own place first, then the project that runs it.
  for (const base of [import.meta.url, pathToFileURL(join(process.cwd(), 'package.json')).href]) {
    try {
      const entry = createRequire(base).resolve('@sparticuz/chromium');
      const archive = join(dirname(entry), '..', '..', 'bin', 'swiftshader.tar.br');
      if (existsSync(archive)) return archive;
    } catch {
      // Not installed for this base.
    }
  }
  return undefined;
}

/** Unpacks the archive once into the user's cache folder; concurrent processes may race, so files appear by rename. */
async function unpack(archive: string): Promise<string> {
  const fs = await import('node:fs');
  const { join } = await import('node:path');
  const { homedir, tmpdir } = await import('node:os');
  const { brotliDecompressSync } = await import('node:zlib');
  const size = fs.statSync(archive).size;
  const roots = [process.env['XDG_CACHE_HOME'], join(homedir(), '.cache'), tmpdir()].filter((root): root is string =>
    Boolean(root),
  );
  for (const root of roots) {
    const folder = join(root, 'zebra', `swiftshader-${size}`);
    if (FILES.every((name) => fs.existsSync(join(folder, name)))) return folder;
    try {
      fs.mkdirSync(folder, { recursive: true });
      const tar = brotliDecompressSync(fs.readFileSync(archive));
      for (const { name, data } of tarEntries(tar)) {
        if (!FILES.includes(name)) continue;
        const temporary = join(folder, `.${name}.${process.pid}`);
        fs.writeFileSync(temporary, data);
        fs.renameSync(temporary, join(folder, name));
      }
      return folder;
    } catch (error) {
      if (root === roots[roots.length - 1]) {
        throw new ZebraError('io', `SwiftShader could not be unpacked to ${folder}: ${(error as Error).message}`, {
          cause: error,
        });
      }
    }
  }
  throw new ZebraError('io', 'SwiftShader could not be unpacked: no cache folder is known');
}

function* tarEntries(tar: Uint8Array): Generator<{ name: string; data: Uint8Array }> {
  const text = new TextDecoder();
  const field = (at: number, length: number) => text.decode(tar.subarray(at, at + length)).replace(/\0.*$/s, '');
  for (let at = 0; at + 512 <= tar.length; ) {
    const name = field(at, 100);
    if (name === '') return;
    const size = Number.parseInt(field(at + 124, 12).trim(), 8);
    yield { name, data: tar.subarray(at + 512, at + 512 + size) };
    at += 512 + Math.ceil(size / 512) * 512;
  }
}
