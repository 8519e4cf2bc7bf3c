import type { Random } from '@zebra/tensor';
import {
  dtypeBytes,
  dtypes,
  openSafetensors,
  type SafetensorsDtype,
  SafetensorsError,
} from '@zebra/tensor/safetensors';
import { oneIn, pick } from '../draw.js';
import { type JsonTree, Members, Raw } from '../json-tree.js';
import { mutateBytes } from '../mutate-bytes.js';
import { mutatedJson, oddValue } from '../mutate-json.js';
import { type FuzzFiles, type FuzzTarget, must } from '../target.js';

/** The header of a valid file as a tree, and the size of its data. */
export interface ValidFile {
  readonly header: JsonTree;
  readonly dataBytes: number;
}

/** A valid file with tensors of some names. */
export function validFile(random: Random, names: readonly string[]): ValidFile {
  let at = 0;
  const members = names.map((name): [string, JsonTree] => {
    const dtype = pick(random, dtypes);
    const shape = Array.from({ length: random.integer(4) }, () => random.integer(5));
    const begin = at;
    at += shape.reduce((product, size) => product * size, dtypeBytes(dtype));
    return [
      name,
      new Members([
        ['dtype', dtype],
        ['shape', shape],
        ['data_offsets', [begin, at]],
      ]),
    ];
  });
  if (oneIn(random, 2)) members.unshift(['__metadata__', new Members([['format', 'pt']])]);
  return { header: new Members(members), dataBytes: at };
}

/** The bytes of a file: length, header, data. */
export function fileBytes(header: string, dataBytes: number, length?: bigint): Uint8Array {
  const text = new TextEncoder().encode(header);
  const bytes = new Uint8Array(8 + text.length + dataBytes);
  new DataView(bytes.buffer).setBigUint64(0, length ?? BigInt(text.length), true);
  bytes.set(text, 8);
  for (let i = 8 + text.length; i < bytes.length; i++) bytes[i] = (i * 37) & 255;
  return bytes;
}

const SIZES = [0, 1, 2, 3, 8, 2 ** 31, 2 ** 32, 2 ** 53 - 1, 2 ** 53, 2 ** 61];

/** What headers get wrong in ways of their own: offsets that overlap or leave the data, shapes that overflow. */
function oddForHeader(random: Random): JsonTree {
  switch (random.integer(6)) {
    case 0:
      return [random.integer(64), random.integer(64)];
    case 1:
      return Array.from({ length: random.integer(5) }, () => pick(random, SIZES));
    case 2:
      return pick(random, [...dtypes, 'F4', 'I128', 'f32', 'BFLOAT16', 'C64']);
    case 3:
      return pick(random, [new Raw('4.0'), new Raw('1e2'), new Raw('-0'), new Raw('18446744073709551615')]);
    default:
      return oddValue(random);
  }
}

const LENGTHS = [
  0n,
  1n,
  7n,
  8n,
  100_000_000n,
  100_000_001n,
  2n ** 31n,
  2n ** 32n,
  2n ** 53n,
  2n ** 63n,
  2n ** 64n - 1n,
];

/** A safetensors file after structured and plain damage. */
export function damagedFile(random: Random, names: readonly string[]): Uint8Array {
  const { header, dataBytes } = validFile(random, names);
  const text = oneIn(random, 12) ? mutatedJson(header, random, oddValue) : mutatedJson(header, random, oddForHeader);
  const extra = oneIn(random, 8) ? random.integer(20) - 10 : 0;
  const length = oneIn(random, 12) ? pick(random, LENGTHS) : undefined;
  const bytes = fileBytes(text, Math.max(0, dataBytes + extra), length);
  return oneIn(random, 6) ? mutateBytes(bytes, random) : bytes;
}

/** Reads everything that a file says it holds, and checks that it lies within the file. */
async function readAll(bytes: Uint8Array, options?: { readonly maxHeaderBytes?: number }): Promise<void> {
  const file = await openSafetensors(bytes, options);
  let total = 0;
  for (const name of file.names) {
    const { dtype, shape, byteLength } = file.info(name);
    must(byteLength === shape.reduce((product, size) => product * size, dtypeBytes(dtype)), 'size is dtype × shape');
    must((await file.readBytes(name)).length === byteLength, 'all bytes of a tensor come');
    total += byteLength;
    if (isFloat(dtype))
      must((await file.readFloat32(name)).length * dtypeBytes(dtype) === byteLength, 'all values come');
  }
  must(total <= bytes.length, 'tensors lie in the file, apart from each other');
  for (const text of file.metadata.values()) must(typeof text === 'string', 'metadata are strings');
  await file.close();
  const missing = await file.readBytes(file.names[0] ?? 'none').catch((error: unknown) => error);
  must(SafetensorsError.is(missing) || file.info(file.names[0]!).byteLength === 0, 'a closed file refuses');
}

function isFloat(dtype: SafetensorsDtype): boolean {
  return dtype === 'F32' || dtype === 'F16' || dtype === 'BF16' || dtype === 'F64';
}

const NAMES = [
  'a',
  'model.norm.weight',
  'model.layers.0.self_attn.q_proj.weight',
  '__proto__',
  'é',
  '',
  'x'.repeat(300),
];

/** Files in memory. */
export const safetensorsTarget: FuzzTarget = {
  name: 'safetensors',
  share: 30,
  make(random) {
    const names = NAMES.slice(random.integer(3), 3 + random.integer(NAMES.length - 2));
    return { 'model.safetensors': damagedFile(random, names) };
  },
  async run(files: FuzzFiles) {
    await readAll(files['model.safetensors'] as Uint8Array);
  },
};
