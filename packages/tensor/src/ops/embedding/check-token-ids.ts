import { ZebraError } from '../../errors.js';

/**
 * Throws unless every id is an integer in [0, vocabularySize): kernels only bound the read, so callers check on the
 * host what they got from outside.
 *
 * @throws ZebraError `data` that names the first offending index and value
 */
export function checkTokenIds(ids: ArrayLike<number>, vocabularySize: number): void {
  for (let i = 0; i < ids.length; i++) {
    const id = ids[i]!;
    if (Number.isInteger(id) && id >= 0 && id < vocabularySize) continue;
    throw new ZebraError(
      'data',
      `token ids: ids[${i}] must be an integer from 0 to ${vocabularySize - 1}, got ${id}. Does the tokenizer belong to this model?`,
    );
  }
}
