import { ZebraError } from '@zebra/tensor';
import { Tokenizer } from './tokenizer.js';
import { readTokenizerFiles } from './tokenizer-files.js';

/**
 * Opens the tokenizer of a Hugging Face folder: `tokenizer.json`, and where they are there `tokenizer_config.json`,
 * `special_tokens_map.json` and `chat_template.jinja`.
 *
 * @throws ZebraError `io` for files that are missing or can't be read, `format` for contents that are no tokenizer
 */
export async function loadTokenizer(folder: string): Promise<Tokenizer> {
  const [{ readFile }, { join }] = await Promise.all([import('node:fs/promises'), import('node:path')]);
  const read = async (name: string): Promise<string | undefined> => {
    try {
      return await readFile(join(folder, name), 'utf8');
    } catch (cause) {
      if ((cause as NodeJS.ErrnoException).code === 'ENOENT') return undefined;
      throw new ZebraError('io', `loadTokenizer: cannot read ${join(folder, name)}: ${(cause as Error).message}`, {
        cause,
      });
    }
  };
  const tokenizerJson = await read('tokenizer.json');
  if (tokenizerJson === undefined) {
    throw new ZebraError(
      'io',
      `loadTokenizer: ${folder} has no tokenizer.json. Give the folder of a Hugging Face checkpoint; one with a tokenizer.model alone must be converted with the transformers library (save_pretrained of its fast tokenizer).`,
    );
  }
  const files = {
    tokenizerJson,
    tokenizerConfigJson: await read('tokenizer_config.json'),
    specialTokensMapJson: await read('special_tokens_map.json'),
    chatTemplate: await read('chat_template.jinja'),
  };
  return new Tokenizer(readTokenizerFiles(files, join(folder, 'tokenizer.json')));
}
