import { SafetensorsError, type SafetensorsErrorCode, show, throwProblems } from './errors.js';
import { describeJson, parseStrictJson, type StrictJson, StrictJsonError } from './strict-json.js';

/** The content of a `model.safetensors.index.json`. */
export interface ShardIndex {
  /** Tensor name → file name of its shard, relative to the index's folder, in the file's order. */
  readonly weightMap: ReadonlyMap<string, string>;
  /** The shards' file names, each once, in order of first use. */
  readonly shards: readonly string[];
  /** The index's `metadata.total_size` in bytes if it has one. Informative only: published files often disagree with it. */
  readonly totalSize: number | undefined;
}

/**
 * Parses and checks an index. Shard names are untrusted: each must be a plain
 * relative path to a `.safetensors` file below the folder, with `/` between
 * its parts and no `..`. Every bad name is reported, in one error.
 *
 * @param text the file's content
 * @param file its name for error messages
 * @throws SafetensorsError "invalid_index", "duplicate" or "shard_path"
 */
export function parseShardIndex(text: string, file = 'model.safetensors.index.json'): ShardIndex {
  const bad = (problem: string, got?: StrictJson, code: SafetensorsErrorCode = 'invalid_index'): SafetensorsError =>
    new SafetensorsError(code, { problem, file, got: got === undefined ? undefined : describeJson(got) });
  let root: StrictJson;
  try {
    root = parseStrictJson(text);
  } catch (error) {
    if (!(error instanceof StrictJsonError)) throw error;
    throw bad(
      `the index isn't valid JSON: ${error.message.slice(0, 300)}`,
      undefined,
      error.kind === 'duplicate' ? 'duplicate' : 'invalid_index',
    );
  }
  if (!(root instanceof Map)) throw bad("the index isn't a JSON object", root);
  const map = root.get('weight_map');
  if (!(map instanceof Map)) throw bad('the index has no object "weight_map"', map ?? null);

  const problems: SafetensorsError[] = [];
  const shards = new Set<string>();
  const seen = new Set<StrictJson>();
  for (const [tensor, shard] of map) {
    if (seen.has(shard)) continue;
    seen.add(shard);
    if (typeof shard !== 'string') {
      problems.push(
        new SafetensorsError('invalid_index', {
          problem: 'weight_map holds something other than a file name',
          tensor,
          got: describeJson(shard),
        }),
      );
    } else if (!isSafeShardName(shard)) {
      problems.push(
        new SafetensorsError('shard_path', {
          problem: "weight_map holds a file name that isn't allowed",
          tensor,
          expected: 'a relative path to a .safetensors file inside the folder, without .. or \\',
          got: show(shard),
        }),
      );
    } else shards.add(shard);
  }
  throwProblems(problems, {
    problem: `the index names ${problems.length} unusable shard${problems.length === 1 ? '' : 's'}`,
    file,
    fix: "Don't load this model unless you trust its source and have repaired the index",
    mixed: 'shard_path',
  });
  const metadata = root.get('metadata');
  const totalSize = metadata instanceof Map ? metadata.get('total_size') : undefined;
  return {
    weightMap: map as Map<string, string>,
    shards: [...shards],
    totalSize: typeof totalSize === 'number' ? totalSize : undefined,
  };
}

/** Whether a shard name from an index stays inside its folder on every operating system, links aside. */
export function isSafeShardName(name: string): boolean {
  // ":" would be a drive or an alternate data stream on Windows.
  if (name.length > 1024 || /[\\:\p{Cc}]/u.test(name) || !name.endsWith('.safetensors')) return false;
  return name.split('/').every((part) => part !== '' && part !== '.' && part !== '..');
}
