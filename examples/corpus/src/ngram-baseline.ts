import { writeFileSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import { parseArgs } from 'node:util';
import { loadTokenized } from './dataset.js';
import { kneserNeyFromCounts, type NgramModel } from './kneser-ney.js';
import { countNgrams } from './ngram-counts.js';
import type { TokenizedSplit } from './tokens.js';

const { values } = parseArgs({
  options: {
    tokenizer: { type: 'string', default: fileURLToPath(new URL('../tokenizer', import.meta.url)) },
    cache: { type: 'string' },
    json: { type: 'string' },
  },
});

/** Losses of one group of documents. */
interface Loss {
  predictions: number;
  natsPerToken: number;
  natsPerByte: number;
}

/** Mean losses of a split, over all documents and over each source's. */
function evaluate(model: NgramModel, split: TokenizedSplit): Record<string, Loss> {
  const sums: Record<string, { nats: number; predictions: number; bytes: number }> = {};
  split.documents.forEach((ids, i) => {
    const nats = model.documentNats(ids);
    for (const group of ['all', split.sources[i]]) {
      sums[group] ??= { nats: 0, predictions: 0, bytes: 0 };
      const sum = sums[group];
      sum.nats += nats;
      sum.predictions += ids.length - 1;
      sum.bytes += split.bytes[i];
    }
  });
  return Object.fromEntries(
    Object.entries(sums).map(([group, { nats, predictions, bytes }]) => [
      group,
      { predictions, natsPerToken: nats / predictions, natsPerByte: nats / bytes },
    ]),
  );
}

const { encoder, splits } = loadTokenized({
  splits: ['train', 'validation', 'test'],
  tokenizerFolder: values.tokenizer,
  ...(values.cache === undefined ? {} : { cacheDir: values.cache }),
});
const train = splits.train;
console.log(`${encoder.vocabularySize} tokens of vocabulary, ${train.ids.length} tokens of train`);
const raw = countNgrams(train.documents, encoder.vocabularySize);
const results: object[] = [];
for (const order of [1, 2, 3] as const) {
  const model = kneserNeyFromCounts(raw, { order, bos: encoder.bos });
  console.log(
    `order ${order}, discounts ${model.discounts.map((d) => d.map((x) => x.toFixed(3)).join('/')).join('  ')}`,
  );
  for (const name of ['validation', 'test'] as const) {
    const losses = evaluate(model, splits[name]);
    results.push({ order, split: name, discounts: model.discounts, losses });
    for (const [group, loss] of Object.entries(losses))
      console.log(
        `  ${name.padEnd(10)} ${group.padEnd(9)} ${loss.natsPerToken.toFixed(4)} nats/token ` +
          `${loss.natsPerByte.toFixed(4)} nats/byte ${loss.predictions} predictions`,
      );
  }
}
if (values.json !== undefined)
  writeFileSync(
    values.json,
    `${JSON.stringify({ vocabularySize: encoder.vocabularySize, trainTokens: train.ids.length, results }, null, 2)}\n`,
  );
