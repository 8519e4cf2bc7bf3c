import type { TokenizerPair } from './published.js';

/**
 * Whether this JavaScript engine and the native library know the same of a character: is it a letter, a digit or
 * neither, and how is it composed (NFC)? They carry tables of different versions of Unicode (tokenizers 0.23: version
 * 16 for letters, 9 for NFC), so characters assigned later may fall on different sides of a token's border. Only the
 * engine is asked here, never our tokenizer, so that nothing of ours can hide behind it.
 *
 * @param byClass a tokenizer that splits by letters and digits and has no normaliser (Llama-3.1's)
 * @param byForm a tokenizer that composes (Qwen3's)
 */
export function unicodeAgreement(byClass: TokenizerPair, byForm: TokenizerPair): (character: string) => boolean {
  const preTokenizer = byClass.native.getPreTokenizer()!;
  const normalizer = byForm.native.getNormalizer()!;
  const together = (text: string) => preTokenizer.preTokenizeString(text).length === 1;
  const known = new Map<string, boolean>();
  const ask = (character: string): boolean => {
    if (/\p{Surrogate}/u.test(character)) return true;
    // Letters stay with letters, digits (up to three) with digits.
    if (together(`a${character}`) !== /\p{L}/u.test(character)) return false;
    if (together(`1${character}`) !== /\p{N}/u.test(character)) return false;
    // Composition alone, and order among marks below (U+0339) and above (U+0301).
    const forms = [character, `a\u0339${character}\u0301`, `a\u0301${character}\u0339`];
    return forms.every((form) => normalizer.normalizeString(form) === form.normalize('NFC'));
  };
  return (character) => {
    let agreed = known.get(character);
    if (agreed === undefined) {
      agreed = ask(character);
      known.set(character, agreed);
    }
    return agreed;
  };
}
