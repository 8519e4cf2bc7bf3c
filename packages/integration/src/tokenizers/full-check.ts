// The tokenizers at full size, against the native library: `npm run tokenizers -w @zebra/integration`. Prints a report,
// exits with 1 where anything differs.
import { availableParallelism } from 'node:os';
import fc from 'fast-check';
import { checkStream, compareIds, compareText, type Difference, hasBrokenBytes } from './compare.js';
import { fuzzedTexts } from './fuzz.js';
import { mixedText } from './mixed-text.js';
import { openPair, TOKENIZER_NAMES, type TokenizerPair } from './published.js';
import { unicodeAgreement } from './unicode.js';

const BYTES = 1_000_000;
const FUZZED = 10_000;
const SEED = 20_261_123;

const text = mixedText(BYTES);
const pairs: TokenizerPair[] = [];
for (const name of TOKENIZER_NAMES) pairs.push(await openPair(name));
const agrees = unicodeAgreement(pairs[1]!, pairs[2]!);
const fuzzed = fc.sample(fuzzedTexts(agrees), { numRuns: FUZZED, seed: SEED });

console.log(
  `Node ${process.version}, Unicode ${process.versions.unicode}, ${availableParallelism()} cores, seed ${SEED}`,
);
console.log(`mixed text: ${Buffer.byteLength(text)} bytes, ${fuzzed.length} fuzzed texts\n`);

let differences = 0;
const report = (name: string, what: string, found: Difference, input?: string) => {
  if (!found) return;
  differences++;
  if (differences > 20) return;
  console.log(
    `DIFFERENT  ${name}, ${what}: ${JSON.stringify(found)}${input === undefined ? '' : `\n  ${escaped(input)}`}`,
  );
};

for (const pair of pairs) {
  const { name, tokenizer, native } = pair;
  const before = differences;
  const ours = timed(() => tokenizer.encode(text));
  const theirs = await timedAsync(async () => (await native.encode(text)).getIds());
  report(name, 'mixed text in one', await compareText(pair, text));
  for (const [i, line] of text.split('\n').entries()) report(name, `line ${i}`, await compareText(pair, line), line);
  const { joined } = checkStream(tokenizer, ours.value);
  report(name, 'streamed text', same(joined, tokenizer.decode(ours.value)));
  let split = 0;
  for (const input of fuzzed) {
    report(name, 'fuzzed text', await compareText(pair, input), input);
    const ids = tokenizer.encode(input, { addSpecialTokens: false });
    const streamed = checkStream(tokenizer, ids);
    report(name, 'streamed fuzzed text', same(streamed.joined, tokenizer.decode(ids)), input);
    // Where the text itself has no U+FFFD, a piece with one is a character that was cut.
    if (!/\p{Surrogate}|\uFFFD/u.test(input)) split += streamed.split.length;
  }
  if (split > 0) report(name, 'characters split in a stream', { what: 'pieces', ours: split, native: 0 });
  const idLists = fc.array(fc.nat({ max: tokenizer.vocabularySize - 1 }), { minLength: 1, maxLength: 30 });
  for (const ids of fc.sample(idLists, { numRuns: FUZZED / 10, seed: SEED })) {
    if (hasBrokenBytes(tokenizer, ids)) continue;
    report(name, 'random ids', await compareIds(pair, ids), JSON.stringify(ids));
  }
  const rate = (ms: number) => `${(Buffer.byteLength(text) / 1e3 / ms).toFixed(2)} MB/s`;
  console.log(
    `${name.padEnd(10)} ${ours.value.length} ids; ours ${rate(ours.ms)}, native ${rate(theirs.ms)}; ${differences - before} differences`,
  );
}

const ranges = disagreements();
console.log(`\n${ranges.count} characters that engine and native library know differently:\n${ranges.text}`);
process.exitCode = differences === 0 ? 0 : 1;

/** The characters that the fuzzed texts leave out, as ranges. */
function disagreements(): { count: number; text: string } {
  const found: [first: number, last: number][] = [];
  let count = 0;
  for (let code = 0; code < 0x32000; code++) {
    if (agrees(String.fromCodePoint(code))) continue;
    count++;
    const range = found.at(-1);
    if (range && range[1] === code - 1) range[1] = code;
    else found.push([code, code]);
  }
  const hex = (code: number) => code.toString(16).toUpperCase().padStart(4, '0');
  return { count, text: found.map(([a, b]) => (a === b ? hex(a) : `${hex(a)}–${hex(b)}`)).join(' ') };
}

function same(ours: string, native: string): Difference {
  return ours === native ? undefined : { what: 'text', ours, native };
}

function escaped(input: string): string {
  return JSON.stringify(input).replace(/[^ -~]/gu, (character) => `\\u{${character.codePointAt(0)!.toString(16)}}`);
}

function timed<T>(run: () => T): { value: T; ms: number } {
  const started = performance.now();
  const value = run();
  return { value, ms: performance.now() - started };
}

async function timedAsync<T>(run: () => Promise<T>): Promise<{ value: T; ms: number }> {
  const started = performance.now();
  const value = await run();
  return { value, ms: performance.now() - started };
}
