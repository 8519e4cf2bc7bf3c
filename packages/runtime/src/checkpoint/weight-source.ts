import type { Shape } from '@zebra/tensor';
import { dtypeBytes, type TensorInfo, type TensorReader } from '@zebra/tensor/safetensors';

/** What loading asks of a checkpoint: an open safetensors file or folder, or a view of one under other names. */
export type WeightSource = Pick<TensorReader, 'names' | 'info' | 'readBytes' | 'readInto'>;

/** Rows of a stored tensor that are a parameter of their own. */
interface Part {
  readonly stored: string;
  readonly info: TensorInfo;
  /** First byte in the stored tensor. */
  readonly begin: number;
}

/**
 * A checkpoint under the names that a model expects, where it has them otherwise: MambaInLlama's inference code holds
 * an attention layer's q, k and v as the rows of one `mha.in_proj`, and o as `mha.out_proj`. What does not fit stays
 * as it is, for the strict check to report.
 */
export function underExpectedNames(source: WeightSource, expected: ReadonlyMap<string, Shape>): WeightSource {
  const stored = new Set(source.names);
  const parts = new Map<string, Part>();
  const used = new Set<string>();
  for (const name of stored) {
    const [, prefix, joined, kind] = /^(.*\.)mha\.(in_proj|out_proj)\.(weight|bias)$/.exec(name) ?? [];
    if (prefix === undefined) continue;
    const letters = joined === 'in_proj' ? ['q', 'k', 'v'] : ['o'];
    const names = letters.map((letter) => `${prefix}self_attn.${letter}_proj.${kind}`);
    const shapes = names.map((part) => expected.get(part));
    const { shape, dtype, ...info } = source.info(name);
    const rows = shapes.reduce((sum, each) => sum + (each?.[0] ?? Number.NaN), 0);
    if (rows !== shape[0] || names.some((part) => stored.has(part))) continue;
    used.add(name);
    let row = 0;
    const rowBytes = info.byteLength / rows;
    for (const [i, part] of names.entries()) {
      const count = shapes[i]![0] as number;
      const begin = row * rowBytes;
      parts.set(part, {
        stored: name,
        begin,
        info: {
          name: part,
          dtype,
          shape: [count, ...shape.slice(1)],
          byteLength: count * rowBytes,
          file: info.file,
          fileOffset: info.fileOffset + begin,
        },
      });
      row += count;
    }
  }
  if (parts.size === 0) return source;
  return {
    names: [...source.names.filter((name) => !used.has(name)), ...parts.keys()],
    info: (name) => parts.get(name)?.info ?? source.info(name),
    async readBytes(name, options = {}) {
      const part = parts.get(name);
      if (!part) return source.readBytes(name, options);
      const { begin = 0, end = part.info.byteLength } = options;
      return source.readBytes(part.stored, { begin: part.begin + begin, end: part.begin + end });
    },
    async readInto(name, target, begin = 0) {
      const part = parts.get(name);
      await source.readInto(part?.stored ?? name, target, (part?.begin ?? 0) + begin);
    },
  };
}

/** The first element that `isBad`, with its place; undefined where there is none. Reads piece by piece. */
export async function findElement(
  source: WeightSource,
  name: string,
  toFloat32: (bytes: Uint8Array) => Float32Array,
  isBad: (value: number) => boolean,
): Promise<{ readonly index: number; readonly value: number } | undefined> {
  const { dtype, byteLength } = source.info(name);
  const step = 2 ** 20 * dtypeBytes(dtype);
  for (let begin = 0; begin < byteLength; begin += step) {
    const values = toFloat32(await source.readBytes(name, { begin, end: Math.min(begin + step, byteLength) }));
    const index = values.findIndex(isBad);
    if (index >= 0) return { index: begin / dtypeBytes(dtype) + index, value: values[index] as number };
  }
  return undefined;
}
