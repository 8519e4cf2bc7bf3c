import { mkdtemp, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';

/** Runs `use` with a fresh folder that is removed afterwards. */
export async function withFolder<T>(use: (folder: string) => Promise<T>): Promise<T> {
  const folder = await mkdtemp(join(tmpdir(), 'zebra-test-'));
  try {
    return await use(folder);
  } finally {
    await rm(folder, { recursive: true, force: true });
  }
}

/** A file of plain safetensors tensors: what its header says, and where its data starts. */
export async function headerOf(path: string): Promise<{ header: SafetensorsJson; dataStart: number }> {
  const bytes = await readFile(path);
  const length = Number(bytes.readBigUInt64LE(0));
  return { header: JSON.parse(bytes.toString('utf8', 8, 8 + length)), dataStart: 8 + length };
}

export type SafetensorsJson = Record<string, { dtype: string; shape: number[]; data_offsets: [number, number] }>;

/** Overwrites one float32 element of a tensor in a file. */
export async function setElement(path: string, name: string, index: number, value: number): Promise<void> {
  const { header, dataStart } = await headerOf(path);
  const bytes = await readFile(path);
  bytes.writeFloatLE(value, dataStart + header[name]!.data_offsets[0] + 4 * index);
  await writeFile(path, bytes);
}

/** Changes a JSON file. */
export async function editJson(path: string, edit: (json: Record<string, unknown>) => void): Promise<void> {
  const json = JSON.parse(await readFile(path, 'utf8')) as Record<string, unknown>;
  edit(json);
  await writeFile(path, JSON.stringify(json));
}
