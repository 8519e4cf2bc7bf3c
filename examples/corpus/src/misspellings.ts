import { readFileSync } from 'node:fs';
import { createRequire } from 'node:module';
import { dirname, join } from 'node:path';
import type { Document } from './documents.js';

/** For each right word, in lower case, the ways people write it wrong. */
export type Misspellings = ReadonlyMap<string, readonly string[]>;

const PACKAGE = '@cspell/dict-en-common-misspellings';

/**
 * Reads the dictionary's lines `wrong->right` (several corrections are separated by commas).
 *
 * @throws Error when a line has another form.
 */
export function parseMisspellings(lines: readonly string[], realWords: ReadonlySet<string>): Misspellings {
  const found = new Map<string, string[]>();
  for (const line of lines) {
    const [wrong, right, rest] = line.split('->');
    if (wrong === undefined || right === undefined || rest !== undefined)
      throw new Error(`parseMisspellings: expected "wrong->right", got ${JSON.stringify(line)}.`);
    // Only unambiguous, plain words; and a "wrong" word that the corpora use is no mistake there.
    if (!/^[a-z]+$/.test(wrong) || !/^[a-z]+$/.test(right) || realWords.has(wrong)) continue;
    const list = found.get(right);
    if (list === undefined) found.set(right, [wrong]);
    else list.push(wrong);
  }
  return found;
}

/**
 * The common misspellings of `@cspell/dict-en-common-misspellings` (CC BY-SA 4.0), turned round.
 *
 * @param realWords words, in lower case, that are never a misspelling: see {@link wordsOf}.
 * @throws Error when the package is missing or its dictionary has another form.
 */
export function loadMisspellings(realWords: ReadonlySet<string>): Misspellings {
  let manifest: string;
  try {
    manifest = createRequire(import.meta.url).resolve(`${PACKAGE}/cspell-ext.json`);
  } catch (cause) {
    throw new Error(`loadMisspellings: package "${PACKAGE}" is not installed; run "npm ci" at the root.`, { cause });
  }
  const path = join(dirname(manifest), 'dict', 'dict-en.json');
  const { dictionaryDefinitions: definitions } = JSON.parse(readFileSync(path, 'utf8')) as {
    dictionaryDefinitions?: { flagWords?: string[]; suggestWords?: string[] }[];
  };
  if (!Array.isArray(definitions)) throw new Error(`loadMisspellings: ${path} has no "dictionaryDefinitions".`);
  const lines = definitions.flatMap(({ flagWords = [], suggestWords = [] }) => [...flagWords, ...suggestWords]);
  return parseMisspellings(lines, realWords);
}

/** Every word of some documents, in lower case. */
export function wordsOf(documents: Iterable<Document>): Set<string> {
  const words = new Set<string>();
  for (const { text } of documents) for (const word of text.match(/[A-Za-z]+/g) ?? []) words.add(word);
  return new Set(Array.from(words, (word) => word.toLowerCase()));
}
