/**
 * A writer for as much of GGUF as llama.cpp needs to run a plain Llama in float32 on token ids.
 *
 * Format: https://github.com/ggml-org/ggml/blob/master/docs/gguf.md (version 3, little-endian).
 */

/** A value of the metadata; numbers say their type, as GGUF keeps several. */
export type GgufValue =
  | { readonly type: 'uint32' | 'float32'; readonly value: number }
  | { readonly type: 'bool'; readonly value: boolean }
  | { readonly type: 'string'; readonly value: string }
  | { readonly type: 'strings'; readonly value: readonly string[] }
  | { readonly type: 'float32s' | 'int32s'; readonly value: readonly number[] };

/** A float32 tensor, [out, in] for matrices. */
export interface GgufTensor {
  readonly name: string;
  readonly shape: readonly number[];
  readonly data: Float32Array;
}

const ALIGNMENT = 32;
const VERSION = 3;
const TYPES = { uint32: 4, int32: 5, float32: 6, bool: 7, string: 8, array: 9 } as const;
const GGML_F32 = 0;

/** The bytes of a file. */
export function writeGguf(metadata: Readonly<Record<string, GgufValue>>, tensors: readonly GgufTensor[]): Uint8Array {
  const parts: Uint8Array[] = [];
  let length = 0;
  const put = (bytes: Uint8Array) => {
    parts.push(bytes);
    length += bytes.length;
  };
  const uint32 = (value: number) => put(new Uint8Array(Uint32Array.of(value).buffer));
  const uint64 = (value: number) => put(new Uint8Array(BigUint64Array.of(BigInt(value)).buffer));
  const string = (text: string) => {
    const bytes = new TextEncoder().encode(text);
    uint64(bytes.length);
    put(bytes);
  };
  const array = (type: number, count: number) => {
    uint32(TYPES.array);
    uint32(type);
    uint64(count);
  };
  const align = () => put(new Uint8Array((ALIGNMENT - (length % ALIGNMENT)) % ALIGNMENT));

  put(new TextEncoder().encode('GGUF'));
  uint32(VERSION);
  uint64(tensors.length);
  uint64(Object.keys(metadata).length);
  for (const [key, entry] of Object.entries(metadata)) {
    string(key);
    switch (entry.type) {
      case 'uint32':
        uint32(TYPES.uint32);
        uint32(entry.value);
        break;
      case 'float32':
        uint32(TYPES.float32);
        put(new Uint8Array(Float32Array.of(entry.value).buffer));
        break;
      case 'bool':
        uint32(TYPES.bool);
        put(Uint8Array.of(entry.value ? 1 : 0));
        break;
      case 'string':
        uint32(TYPES.string);
        string(entry.value);
        break;
      case 'strings':
        array(TYPES.string, entry.value.length);
        for (const text of entry.value) string(text);
        break;
      case 'float32s':
        array(TYPES.float32, entry.value.length);
        put(new Uint8Array(Float32Array.from(entry.value).buffer));
        break;
      case 'int32s':
        array(TYPES.int32, entry.value.length);
        put(new Uint8Array(Int32Array.from(entry.value).buffer));
        break;
    }
  }
  let offset = 0;
  for (const { name, shape, data } of tensors) {
    string(name);
    uint32(shape.length);
    // ggml counts dimensions from the innermost.
    for (const size of [...shape].reverse()) uint64(size);
    uint32(GGML_F32);
    uint64(offset);
    offset += Math.ceil(data.byteLength / ALIGNMENT) * ALIGNMENT;
  }
  for (const { data } of tensors) {
    align();
    put(new Uint8Array(data.buffer, data.byteOffset, data.byteLength));
  }
  align();
  return Uint8Array.from(Buffer.concat(parts));
}
