import { ZebraError } from '@zebra/tensor';
import { showValue } from '../config/problems.js';
import { endlessPattern } from './pattern-limits.js';

/** How many times longer a text may become by the replacements of a normaliser or decoder. */
const MOST_GROWTH = 1000;
/** Entries of a template that puts special tokens around a text. */
const MOST_TEMPLATE_ENTRIES = 100;
const MOST_PARTS = 100_000;
/** Parts of a `tokenizer.json` that work on text. */
const PARTS = ['normalizer', 'pre_tokenizer', 'post_processor', 'decoder'] as const;

/**
 * Refuses a tokenizer whose work on a text is out of proportion to the text: patterns that may take forever,
 * replacements that make it thousands of times longer, templates that repeat it. The file is taken for untrusted.
 *
 * @throws ZebraError `format`
 */
export function assertBoundedWork(origin: string, tokenizer: Record<string, unknown>): void {
  for (const key of PARTS) {
    const fail = (what: string) => {
      throw new ZebraError('format', `${origin}: ${key}: ${what}`);
    };
    let growth = 1;
    let parts = 0;
    for (const part of objectsIn(tokenizer[key])) {
      if (++parts > MOST_PARTS) fail(`more than ${MOST_PARTS} parts`);
      if (typeof part.Regex === 'string') {
        const why = endlessPattern(part.Regex);
        if (why) fail(`the pattern ${showValue(part.Regex)} may take forever on some text: ${why}`);
      }
      // Replacements of one sequence work one on the result of another.
      for (const text of [part.content, part.prepend, part.replacement]) {
        if (typeof text === 'string') growth *= Math.max(1, text.length);
      }
      if (growth > MOST_GROWTH) fail(`replacements that can make a text more than ${MOST_GROWTH} times longer`);
      for (const template of [part.single, part.pair]) {
        if (Array.isArray(template) && template.length > MOST_TEMPLATE_ENTRIES) {
          fail(`a template of ${template.length} entries; ${MOST_TEMPLATE_ENTRIES} are allowed`);
        }
      }
    }
  }
}

/** Every object in a JSON value, however deep. */
function* objectsIn(value: unknown): Iterable<Record<string, unknown>> {
  const open: unknown[] = [value];
  while (open.length > 0) {
    const next = open.pop();
    if (typeof next !== 'object' || next === null) continue;
    if (!Array.isArray(next)) yield next as Record<string, unknown>;
    for (const inside of Object.values(next)) open.push(inside);
  }
}
