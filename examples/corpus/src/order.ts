import { type Document, hash32, seededRandom } from './documents.js';

/**
 * Shuffles documents so that every prefix is a fair sample: within a source the order is random, and across sources a
 * document stands where its source's running share of bytes says, so that each source fills the same share of any
 * prefix as of the whole, to within one document.
 *
 * @param documents in any order; the result does not depend on it.
 * @param seed picks the shuffle.
 */
export function interleave(documents: readonly Document[], seed: number): Document[] {
  const random = seededRandom(seed);
  const bySource = new Map<string, Document[]>();
  for (const document of documents) {
    const group = bySource.get(document.source);
    if (group === undefined) bySource.set(document.source, [document]);
    else group.push(document);
  }
  const placed: { document: Document; position: number }[] = [];
  for (const source of [...bySource.keys()].sort()) {
    const group = bySource.get(source) as Document[];
    const salt = Math.floor(random() * 2 ** 32);
    const shuffled = group
      .map((document) => ({ document, key: hash32(document.id, salt) }))
      .sort((a, b) => a.key - b.key || (a.document.id < b.document.id ? -1 : 1));
    const total = group.reduce((sum, document) => sum + document.text.length, 0);
    let before = 0;
    for (const { document } of shuffled) {
      placed.push({ document, position: (before + document.text.length / 2) / total });
      before += document.text.length;
    }
  }
  placed.sort((a, b) => a.position - b.position || (a.document.id < b.document.id ? -1 : 1));
  return placed.map(({ document }) => document);
}
