import { ZebraError } from '../errors.js';
import { nodeFsSync, nodeModule, nodeOs, nodePath, nodeUrl, nodeZlib } from '../node-modules.js';

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
  const { join } = await nodePath();
  const folder = await unpack(archive);
  const icd = join(folder, 'vk_swiftshader_icd.json');
  process.env['VK_DRIVER_FILES'] = icd;
  process.env['VK_ICD_FILENAMES'] = icd;
  const { constants } = await nodeOs();
  try {
    // RTLD_DEEPBIND stays off; 0x1000 is RTLD_NODELETE. dlopen of a plain library throws after mapping it: that is enough.
    process.dlopen({ exports: {} }, join(folder, 'libvulkan.so.1'), constants.dlopen.RTLD_NOW | 0x1000);
  } catch (error) {
    // "Module did not self-register": the library is mapped, and Dawn's dlopen by name finds it.
    if (!/self-register/i.test((error as Error).message)) {
      throw new ZebraError('device', `SwiftShader's Vulkan loader could not be mapped: ${(error as Error).message}`, {
        cause: error,
      });
    }
  }
  return true;
}

async function findArchive(): Promise<string | undefined> {
  const { createRequire } = await nodeModule();
  const { existsSync } = await nodeFsSync();
  const { dirname, join } = await nodePath();
  const { pathToFileURL } = await nodeUrl();
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

/**
 * Unpacks the archive into the user's cache folder, once; concurrent processes may race, so files appear by rename.
 * Where no such folder can be written, into a fresh private folder: native code is loaded from it, so a shared one with
 * a name that others can guess will not do.
 */
async function unpack(archive: string): Promise<string> {
  const fs = await nodeFsSync();
  const { join } = await nodePath();
  const { homedir, tmpdir } = await nodeOs();
  const name = `swiftshader-${fs.statSync(archive).size}`;
  for (const root of [process.env['XDG_CACHE_HOME'], join(homedir(), '.cache')]) {
    if (!root) continue;
    const folder = join(root, 'zebra', name);
    if (FILES.every((file) => fs.existsSync(join(folder, file)))) return folder;
    try {
      fs.mkdirSync(folder, { recursive: true });
      await extract(archive, folder);
      return folder;
    } catch {
      // A read-only home, say: the next place may do.
    }
  }
  const folder = fs.mkdtempSync(join(tmpdir(), `zebra-${name}-`));
  await extract(archive, folder).catch((error: Error) => {
    throw new ZebraError('io', `SwiftShader could not be unpacked to ${folder}: ${error.message}`, { cause: error });
  });
  return folder;
}

async function extract(archive: string, folder: string): Promise<void> {
  const fs = await nodeFsSync();
  const { join } = await nodePath();
  const { brotliDecompressSync } = await nodeZlib();
  for (const { name, data } of tarEntries(brotliDecompressSync(fs.readFileSync(archive)))) {
    if (!FILES.includes(name)) continue;
    const temporary = join(folder, `.${name}.${process.pid}`);
    fs.writeFileSync(temporary, data);
    fs.renameSync(temporary, join(folder, name));
  }
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
