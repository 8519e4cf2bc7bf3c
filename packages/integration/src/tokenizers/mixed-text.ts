import { readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { Random } from '@zebra/tensor';
import { loadDocuments, type Source } from 'zebra-example-corpus';

const PACKAGES = fileURLToPath(new URL('../../..', import.meta.url));

/** How many of the bytes each kind of text gets. */
const SHARES: readonly [share: number, pieces: () => Iterable<string>][] = [
  [0.25, () => documents('moby-dick')],
  [0.2, () => documents('sotu')],
  [0.15, () => documents('wordnet')],
  [0.2, sources],
  [0.1, otherLanguages],
  [0.05, emoji],
  [0.05, controlCharacters],
];

/**
 * Text of many kinds, about so many bytes: English from the corpus packages, TypeScript and WGSL from our own sources,
 * Chinese and other scripts, emoji, control characters. The same on every machine, but for our sources as they change
 * and the engine's language data.
 */
export function mixedText(bytes: number): string {
  const parts: string[] = [];
  for (const [share, pieces] of SHARES) {
    let left = share * bytes;
    while (left > 0) {
      const before = left;
      for (const piece of pieces()) {
        // A cut may leave half of a surrogate pair, which is for the fuzzed texts.
        const cut = piece.slice(0, Math.ceil(left)).replace(/\p{Surrogate}/gu, '');
        parts.push(cut);
        left -= Buffer.byteLength(cut) + 1;
        if (left <= 0) break;
      }
      if (left === before) throw new Error('mixedText: a kind of text has no pieces.');
    }
  }
  return parts.join('\n');
}

function* documents(source: Source): Iterable<string> {
  for (const { text } of loadDocuments([source])) yield text;
}

function* sources(): Iterable<string> {
  for (const name of readdirSync(PACKAGES).sort()) {
    let files: string[];
    try {
      files = readdirSync(join(PACKAGES, name, 'src'), { recursive: true, encoding: 'utf8' });
    } catch {
      continue;
    }
    for (const file of files.sort()) {
      if (file.endsWith('.ts')) yield readFileSync(join(PACKAGES, name, 'src', file), 'utf8');
    }
  }
}

// The Analects 1.1 and 1.2, the Tao Te Ching 1 and 2.
const CHINESE = [
  '子曰：「學而時習之，不亦說乎？有朋自遠方來，不亦樂乎？人不知而不慍，不亦君子乎？」',
  '有子曰：「其為人也孝弟，而好犯上者，鮮矣；不好犯上，而好作亂者，未之有也。君子務本，本立而道生。」',
  '道可道，非常道；名可名，非常名。无名天地之始，有名万物之母。故常无欲以观其妙，常有欲以观其徼。',
  '天下皆知美之为美，斯恶已；皆知善之为善，斯不善已。故有无相生，难易相成，长短相较，高下相倾。',
];

/** Chinese sentences, and names of languages, regions and scripts in some languages, as the engine's CLDR has them. */
function* otherLanguages(): Iterable<string> {
  yield CHINESE.join('\n');
  const letters = Array.from({ length: 26 }, (_, i) => String.fromCharCode(97 + i));
  const codes = letters.flatMap((first) => letters.map((second) => first + second));
  for (const locale of ['zh-Hans', 'zh-Hant', 'ja', 'ko', 'ru', 'el', 'ar', 'he', 'hi', 'th', 'vi', 'am', 'de']) {
    const languages = new Intl.DisplayNames(locale, { type: 'language', fallback: 'none' });
    const regions = new Intl.DisplayNames(locale, { type: 'region', fallback: 'none' });
    const names = codes.flatMap((code) => [languages.of(code), regions.of(code.toUpperCase())]);
    const dates = [0, 1e12].map((time) => new Intl.DateTimeFormat(locale, { dateStyle: 'full' }).format(time));
    yield [...dates, ...names.filter((name) => name !== undefined)].join(locale.startsWith('zh') ? '、' : ', ');
    yield CHINESE.join('');
  }
}

function* emoji(): Iterable<string> {
  const all: string[] = [];
  for (let code = 0x203c; code < 0x1fb00; code++) {
    const character = String.fromCodePoint(code);
    if (/\p{Emoji_Presentation}/u.test(character)) all.push(character);
  }
  const skins = ['🏻', '🏼', '🏽', '🏾', '🏿'];
  yield ['👩‍👩‍👧', '👨‍💻', '🏳️‍🌈', '❤️', '🧑🏽‍🚀', '1️⃣', '🇨🇭🇯🇵🇧🇷', '🏴󠁧󠁢󠁳󠁣󠁴󠁿'].join(' ');
  yield all.join('');
  yield all.map((character, i) => character + skins[i % 5]).join(' ');
}

function* controlCharacters(): Iterable<string> {
  const random = new Random(5);
  const marks = [0x200b, 0x200d, 0x200e, 0x2028, 0x2029, 0xad, 0xfeff, 0xfffd, 0xffff, 0xa0, 0x3000, 0x10ffff];
  const words = ['word', ' ', '  ', '\n', 'Zebra', '3.14', '::', '\t', "don't", 'é'];
  for (;;) {
    const parts = Array.from({ length: 200 }, () => {
      const roll = random.integer(3);
      if (roll === 0) return words[random.integer(words.length)]!;
      if (roll === 1) return String.fromCodePoint(marks[random.integer(marks.length)]!);
      return String.fromCharCode(random.integer(2) * 0x7f + random.integer(0x21));
    });
    yield parts.join('');
  }
}
