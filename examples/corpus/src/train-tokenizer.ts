import { mkdirSync, writeFileSync } from 'node:fs';
import { join, resolve } from 'node:path';
import { parseArgs } from 'node:util';
import { loadDocuments } from './corpora.js';
import { formatJson } from './format-json.js';
import { splitDocuments } from './split.js';
import { trainTokenizer } from './tokenizer-train.js';

const { values, positionals } = parseArgs({
  allowPositionals: true,
  options: { vocabulary: { type: 'string', default: '1024' } },
});
const folder = positionals[0];
if (folder === undefined) {
  console.error('usage: train-tokenizer OUT_DIR [--vocabulary 1024]');
  process.exit(2);
}
const { documents } = splitDocuments(loadDocuments());
const files = trainTokenizer(
  documents.train.map((document) => document.text),
  Number(values.vocabulary),
);
mkdirSync(folder, { recursive: true });
writeFileSync(join(folder, 'tokenizer.json'), `${formatJson(files.tokenizer)}\n`);
writeFileSync(join(folder, 'tokenizer_config.json'), `${formatJson(files.config)}\n`);
console.log(
  `${resolve(folder)}: ${Object.keys(files.tokenizer.model.vocab).length} tokens, ` +
    `${files.tokenizer.model.merges.length} merges, from ${documents.train.length} documents`,
);
