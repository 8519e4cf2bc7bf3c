import { readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { type Device, type Tensor, tensor } from '@zebra/tensor';
import { openSafetensors } from '@zebra/tensor/safetensors';

/** The tensors of one golden file in memory. */
export class Golden {
  private readonly values: ReadonlyMap<
    string,
    { readonly shape: readonly number[]; readonly data: Float32Array | Float64Array | Int32Array }
  >;

  private constructor(values: Golden['values']) {
    this.values = values;
  }

  /** Reads a file whole. */
  static async read(folder: string, file: string): Promise<Golden> {
    await using reader = await openSafetensors(join(folder, file));
    const values = new Map();
    for (const name of reader.names) {
      const { dtype, shape } = reader.info(name);
      const bytes = (await reader.readBytes(name)).slice();
      const data =
        dtype === 'I32'
          ? new Int32Array(bytes.buffer)
          : dtype === 'F64'
            ? new Float64Array(bytes.buffer)
            : await reader.readFloat32(name);
      values.set(name, { shape, data });
    }
    return new Golden(values);
  }

  get names(): string[] {
    return [...this.values.keys()];
  }

  has(name: string): boolean {
    return this.values.has(name);
  }

  shape(name: string): readonly number[] {
    return this.entry(name).shape;
  }

  data(name: string): Float32Array | Float64Array | Int32Array {
    return this.entry(name).data;
  }

  /** A tensor on the device, for the caller to free. */
  tensor(device: Device, name: string): Tensor {
    const { data, shape } = this.entry(name);
    return tensor(device, data, shape);
  }

  /** Tensors under a prefix, by the rest of their names. */
  under(prefix: string): Map<string, Float32Array> {
    return new Map(
      this.names.filter((n) => n.startsWith(prefix)).map((n) => [n.slice(prefix.length), this.data(n) as Float32Array]),
    );
  }

  private entry(name: string) {
    const found = this.values.get(name);
    if (!found) throw new Error(`golden: ${name} is missing; there are ${this.names.join(', ')}`);
    return found;
  }
}

/** A JSON file of a golden folder. */
export async function readJsonFile<T>(folder: string, file: string): Promise<T> {
  return JSON.parse(await readFile(join(folder, file), 'utf8')) as T;
}
