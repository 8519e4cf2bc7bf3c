import { copyFileSync, writeFileSync } from 'node:fs';
import { join, resolve } from 'node:path';
import { fileURLToPath } from 'node:url';
import { parseArgs } from 'node:util';
import { writeSplit } from './cache.js';
import { corpusVersions } from './corpora.js';
import { loadTokenized } from './dataset.js';
import { SOURCES } from './documents.js';
import { SPLITS } from './split.js';

const { values, positionals } = parseArgs({
  allowPositionals: true,
  options: {
    tokenizer: { type: 'string', default: fileURLToPath(new URL('../tokenizer', import.meta.url)) },
    seed: { type: 'string', default: '0' },
    'passage-bytes': { type: 'string' },
  },
});
const folder = positionals[0];
if (folder === undefined) {
  console.error('usage: export-tokens OUT_DIR [--tokenizer DIR] [--seed 0] [--passage-bytes N]');
  process.exit(2);
}
const seed = Number(values.seed);
const passage = values['passage-bytes'];
const { encoder, splits } = loadTokenized({
  splits: SPLITS,
  tokenizerFolder: values.tokenizer,
  seed,
  ...(passage === undefined ? {} : { passageBytes: Number(passage) }),
});
const counts = Object.fromEntries(SPLITS.map((name) => [name, writeSplit(folder, name, splits[name])]));
const meta = {
  format: 'little-endian; <split>.tokens.bin uint16, .offsets.bin uint32, .sources.bin uint8, .bytes.bin uint32',
  vocabularySize: encoder.vocabularySize,
  bos: encoder.bos,
  eos: encoder.eos,
  sources: SOURCES,
  seed,
  passageBytes: passage === undefined ? null : Number(passage),
  corpora: corpusVersions(),
  splits: counts,
};
writeFileSync(join(folder, 'meta.json'), `${JSON.stringify(meta, null, 2)}\n`);
for (const file of ['tokenizer.json', 'tokenizer_config.json'])
  copyFileSync(join(values.tokenizer, file), join(folder, file));
for (const name of SPLITS) {
  const { documents, tokens, bytes } = counts[name] as { documents: number; tokens: number; bytes: number };
  console.log(`${name}: ${documents} documents, ${tokens} tokens, ${(bytes / tokens).toFixed(3)} bytes a token`);
}
console.log(resolve(folder));
