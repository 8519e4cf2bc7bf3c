import { fileURLToPath } from 'node:url';
import { parseArgs } from 'node:util';
import { loadDocuments } from './corpora.js';
import { CORRUPTIONS } from './corruptions.js';
import { tokenizeDocuments } from './dataset.js';
import { SOURCES } from './documents.js';
import { openEncoder } from './encoder.js';
import { trainKneserNey } from './kneser-ney.js';
import { buildPreferences, type PreferencePair } from './preferences.js';
import { splitDocuments } from './split.js';

const { values } = parseArgs({
  options: {
    tokenizer: { type: 'string', default: fileURLToPath(new URL('../tokenizer', import.meta.url)) },
    seed: { type: 'string', default: '0' },
    show: { type: 'string', default: '5' },
  },
});
const { documents } = splitDocuments(loadDocuments());
const pairs = buildPreferences(documents.test, { seed: Number(values.seed) });
const encoder = openEncoder(values.tokenizer);
const model = trainKneserNey(tokenizeDocuments(documents.train, encoder).documents, {
  order: 3,
  vocabularySize: encoder.vocabularySize,
  bos: encoder.bos,
});

const mean = (numbers: readonly number[]): string => (numbers.reduce((a, b) => a + b, 0) / numbers.length).toFixed(2);
const share = (flags: readonly boolean[]): string =>
  `${((100 * flags.filter(Boolean).length) / flags.length).toFixed(1)}%`;

/** Tokens and trigram nats of a continuation after its prompt. */
const score = (prompt: string, continuation: string): { tokens: number; nats: number } => {
  const before = [encoder.bos, ...encoder.encode(prompt)];
  const ids = encoder.encode(continuation);
  const whole = model.documentNats(Uint16Array.from([...before, ...ids]));
  return { tokens: ids.length, nats: whole - model.documentNats(Uint16Array.from(before)) };
};

console.log(`${pairs.report.sentences} sentences, ${pairs.report.skipped} that allow no corruption`);
const report = (name: string, list: readonly PreferencePair[]): void => {
  const scored = list.map(({ prompt, chosen, rejected, corruption }) => ({
    corruption,
    chosen: score(prompt, chosen),
    rejected: score(prompt, rejected),
  }));
  const sources = SOURCES.map((source) => `${source} ${list.filter((pair) => pair.source === source).length}`);
  console.log(`${name}: ${list.length} pairs (${sources.join(', ')})`);
  console.log(
    `  tokens: chosen ${mean(scored.map((s) => s.chosen.tokens))}, rejected ${mean(scored.map((s) => s.rejected.tokens))}; ` +
      `the rejected one has more in ${share(scored.map((s) => s.rejected.tokens > s.chosen.tokens))}, ` +
      `fewer in ${share(scored.map((s) => s.rejected.tokens < s.chosen.tokens))}`,
  );
  for (const kind of ['all', ...CORRUPTIONS] as const) {
    const some = kind === 'all' ? scored : scored.filter(({ corruption }) => corruption === kind);
    console.log(
      `  ${kind.padEnd(14)} ${String(some.length).padStart(5)}: the trigram prefers the chosen one in ` +
        `${share(some.map((s) => s.chosen.nats < s.rejected.nats))} by sum, ` +
        `in ${share(some.map((s) => s.chosen.nats / s.chosen.tokens < s.rejected.nats / s.rejected.tokens))} a token`,
    );
  }
};
report('train', pairs.train);
report('evaluation', pairs.evaluation);
for (const { prompt, chosen, rejected, corruption } of pairs.evaluation.slice(0, Number(values.show)))
  console.log(`\n  ${corruption}: ${prompt} |\n  +${chosen}\n  -${rejected}`);
