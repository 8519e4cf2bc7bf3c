import { ZebraError } from '@zebra/tensor';
import { isSafeShardName, parseShardIndex } from '@zebra/tensor/safetensors';

/** Files of a model beside its weights that loading looks at. */
export const SMALL_FILES: readonly string[] = [
  'config.json',
  'hybrid_config.json',
  // MambaInLlama and X-EcoMLA.
  'mamba_config.json',
  'MLA_config.json',
  'mla_layer_config.json',
  'generation_config.json',
  'tokenizer.json',
  'tokenizer_config.json',
  'special_tokens_map.json',
  'chat_template.jinja',
];

const SINGLE = 'model.safetensors';
const INDEX = 'model.safetensors.index.json';

/** Which of a repository's files hold its weights: one file, or the index of several. Throws ZebraError `format`. */
export function weightsEntry(
  repo: string,
  files: ReadonlySet<string>,
): { readonly name: string; readonly isIndex: boolean } {
  if (files.has(SINGLE)) return { name: SINGLE, isIndex: false };
  if (files.has(INDEX)) return { name: INDEX, isIndex: true };
  throw new ZebraError(
    'format',
    `hub: ${repo} has neither ${SINGLE} nor ${INDEX}. Take a repository whose weights are safetensors, or convert them with the transformers library (save_pretrained).`,
  );
}

/** Names of the shards in an index. Throws SafetensorsError for names that would leave the folder. */
export async function shardsOf(indexPath: string): Promise<readonly string[]> {
  const { readFile } = await import('node:fs/promises');
  return parseShardIndex(await readFile(indexPath, 'utf8'), indexPath).shards;
}

/** The names of a folder's files that make up its model; undefined where some are missing. */
export async function modelFilesIn(folder: string): Promise<readonly string[] | undefined> {
  const [{ stat }, { join }] = await Promise.all([import('node:fs/promises'), import('node:path')]);
  const isThere = async (name: string) => (await stat(join(folder, name)).catch(() => undefined))?.isFile() === true;
  const present: string[] = [];
  for (const name of SMALL_FILES) if (await isThere(name)) present.push(name);
  if (!present.includes('config.json')) return undefined;
  if (await isThere(SINGLE)) return [...present, SINGLE];
  if (!(await isThere(INDEX))) return undefined;
  const shards = await shardsOf(join(folder, INDEX)).catch(() => []);
  for (const name of shards) if (!isSafeShardName(name) || !(await isThere(name))) return undefined;
  return shards.length > 0 ? [...present, INDEX, ...shards] : undefined;
}
