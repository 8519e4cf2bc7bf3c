import type { Document } from './documents.js';

/** A stretch of a document: the parts, each followed by its separator, give the document's text again. */
export interface Segment {
  readonly text: string;
  readonly separator: string;
  /** False for the head words of a dictionary entry, which name it and say nothing. */
  readonly isSentence: boolean;
}

const SENTENCE_END = /[.!?]["')\]]*( +|\n)(?=["'([]*[A-Z0-9])|\n/g;
const ABBREVIATION =
  /(?:^|[\s("'])(?:[A-Z]|Mr|Mrs|Ms|Messrs|Dr|St|Gen|Hon|Col|Capt|Lieut|Maj|Gov|Prof|Jr|Sr|No|Brig|Rev|Art|Sec|U\.S)$/;

/**
 * The sentences of a document. Prose ends a sentence at `.`, `!` or `?` before a capital or a digit (not after an
 * initial or a title), and at a line's end. A dictionary entry has its head words, each definition and each usage
 * example.
 */
export function segments(document: Document): Segment[] {
  return document.source === 'wordnet' ? entrySegments(document.text) : proseSegments(document.text);
}

function proseSegments(text: string): Segment[] {
  const found: Segment[] = [];
  let start = 0;
  SENTENCE_END.lastIndex = 0;
  for (let match = SENTENCE_END.exec(text); match !== null; match = SENTENCE_END.exec(text)) {
    const separator = match[1] ?? '\n';
    const end = match.index + match[0].length - separator.length;
    if (
      separator !== '\n' &&
      match[0].startsWith('.') &&
      ABBREVIATION.test(text.slice(Math.max(start, match.index - 8), match.index))
    )
      continue;
    found.push({ text: text.slice(start, end), separator, isSentence: true });
    start = end + separator.length;
  }
  if (start < text.length) found.push({ text: text.slice(start), separator: '', isSentence: true });
  return found;
}

function entrySegments(text: string): Segment[] {
  const colon = text.indexOf(': ');
  if (colon < 0) return [{ text, separator: '', isSentence: true }];
  const found: Segment[] = [{ text: text.slice(0, colon), separator: ': ', isSentence: false }];
  let start = colon + 2;
  let quoted = false;
  for (let i = start; i < text.length; i++) {
    if (text[i] === '"') quoted = !quoted;
    else if (text[i] === ';' && !quoted) {
      const end = i;
      while (text[i + 1] === ' ') i++;
      if (end > start) found.push({ text: text.slice(start, end), separator: '; ', isSentence: true });
      start = i + 1;
    }
  }
  if (start < text.length) found.push({ text: text.slice(start), separator: '', isSentence: true });
  return found;
}

/** What makes two sentences the same: their letters and digits, in lower case. Empty where there are none. */
export function sentenceKey(sentence: string): string {
  return sentence
    .toLowerCase()
    .replace(/[^\p{L}\p{N}]+/gu, ' ')
    .trim();
}

/** The text of some segments in their order; the last one's separator is left out. */
export function joinSegments(parts: readonly Segment[]): string {
  return parts.map((part, i) => part.text + (i + 1 < parts.length ? part.separator : '')).join('');
}

/**
 * Cuts prose at sentence ends into documents of about `bytes` characters (a sentence is never cut; a rest shorter than
 * a quarter joins the passage before it). Dictionary entries, and documents that are short enough, stay whole. Passages
 * are named `<id>#0`, `<id>#1`, ….
 */
export function passages(document: Document, bytes: number): Document[] {
  if (document.source === 'wordnet' || document.text.length <= bytes * 1.25) return [document];
  const groups: Segment[][] = [];
  let size = bytes;
  for (const part of segments(document)) {
    if (size >= bytes) {
      groups.push([]);
      size = 0;
    }
    groups.at(-1)?.push(part);
    size += part.text.length + 1;
  }
  if (groups.length > 1 && size < bytes / 4) groups.at(-2)?.push(...(groups.pop() as Segment[]));
  return groups.map((group, i) => ({ ...document, id: `${document.id}#${i}`, text: joinSegments(group) }));
}
