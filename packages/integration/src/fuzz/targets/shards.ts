import { mkdirSync, writeFileSync } from 'node:fs';
import { dirname, join, resolve, sep } from 'node:path';
import type { Random } from '@zebra/tensor';
import { openSafetensorsFolder, parseShardIndex } from '@zebra/tensor/safetensors';
import { oneIn, pick } from '../draw.js';
import { type JsonTree, Members, toText } from '../json-tree.js';
import { mutatedJson, oddValue } from '../mutate-json.js';
import { type FuzzFiles, type FuzzTarget, must } from '../target.js';
import { damagedFile, fileBytes, validFile } from './safetensors.js';

const SHARDS = ['model-00001-of-00002.safetensors', 'model-00002-of-00002.safetensors'];
const TENSORS = [
  ['model.embed_tokens.weight', 'model.layers.0.input_layernorm.weight'],
  ['model.layers.1.input_layernorm.weight', 'model.norm.weight'],
];
/** Stands beside the model's folder, where no index may reach. */
const SECRET = 'secret.safetensors';

const ESCAPES = [
  ...['../secret.safetensors', './../secret.safetensors', 'a/../../secret.safetensors', '..\\secret.safetensors'],
  ...[
    '/etc/passwd',
    '/etc/passwd.safetensors',
    'C:\\a.safetensors',
    'file:///etc/a.safetensors',
    '//host/a.safetensors',
  ],
  ...['%2e%2e/secret.safetensors', '..%2fsecret.safetensors', '․․/secret.safetensors', '.safetensors', '..safetensors'],
  ...['a\0.safetensors', 'model.bin', 'CON.safetensors', '.', '..', '', 'a/', '~/.safetensors', '$HOME/a.safetensors'],
  `${'a/'.repeat(600)}b.safetensors`,
  `${'y'.repeat(300)}.safetensors`,
];

function oddForIndex(random: Random): JsonTree {
  if (oneIn(random, 2)) return pick(random, ESCAPES);
  return oneIn(random, 3) ? pick(random, SHARDS) : oddValue(random);
}

/** An index and its shards in a folder. */
export const shardsTarget: FuzzTarget = {
  name: 'shards',
  share: 14,
  make(random) {
    const index = new Members([
      ['metadata', new Members([['total_size', 1234]])],
      [
        'weight_map',
        new Members(TENSORS.flatMap((names, shard) => names.map((name): [string, JsonTree] => [name, SHARDS[shard]!]))),
      ],
    ]);
    const files: Record<string, string | Uint8Array> = {
      'model.safetensors.index.json': oneIn(random, 5) ? toText(index) : mutatedJson(index, random, oddForIndex),
    };
    SHARDS.forEach((name, i) => {
      if (oneIn(random, 20)) return;
      const { header, dataBytes } = validFile(random, TENSORS[i]!);
      files[name] = oneIn(random, 6) ? damagedFile(random, TENSORS[i]!) : fileBytes(toText(header), dataBytes);
    });
    return files;
  },
  async run(files: FuzzFiles, folder) {
    const model = join(folder, 'model');
    mkdirSync(model);
    for (const [name, content] of Object.entries(files)) writeFileSync(join(model, name), content);
    writeFileSync(join(folder, SECRET), fileBytes('{"secret":{"dtype":"U8","shape":[1],"data_offsets":[0,1]}}', 1));
    const index = files['model.safetensors.index.json'] as string;
    const reader = await openSafetensorsFolder(model);
    try {
      must(!reader.has('secret'), 'no file outside of the folder is read');
      for (const shard of parseShardIndex(index).shards) {
        must(resolve(model, shard).startsWith(model + sep) && dirname(shard) !== '..', 'shards lie in the folder');
      }
      for (const name of reader.names) {
        must((await reader.readBytes(name)).length === reader.info(name).byteLength, 'all bytes of a tensor come');
      }
    } finally {
      await reader.close();
    }
  },
};
