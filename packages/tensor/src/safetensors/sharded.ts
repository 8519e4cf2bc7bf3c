import { SafetensorsError, throwProblems } from './errors.js';
import {
  missingTensor,
  type ReadBytesOptions,
  type SafetensorsFile,
  type StreamOptions,
  type TensorInfo,
  type TensorReader,
} from './reader.js';
import type { ShardIndex } from './shard-index.js';

/** Options of `ShardedSafetensors.join`. */
export interface JoinShardsOptions {
  /** Name of the folder or index for error messages. Default: none. */
  name?: string | undefined;
  /**
   * What to do with a tensor that a shard holds and the index doesn't list:
   * "error" (default) or "ignore", which leaves it out.
   */
  unlisted?: 'error' | 'ignore' | undefined;
}

/** Several shards and the index over them, read as one file. */
export class ShardedSafetensors implements TensorReader {
  readonly names: readonly string[];
  /** The shards' metadata together; where two disagree, the first shard's. */
  readonly metadata: ReadonlyMap<string, string>;
  /** The shards' file names. */
  readonly shards: readonly string[];
  readonly #fileOf: ReadonlyMap<string, SafetensorsFile>;
  readonly #files: readonly SafetensorsFile[];
  readonly #name: string | undefined;

  private constructor(index: ShardIndex, files: ReadonlyMap<string, SafetensorsFile>, name: string | undefined) {
    this.#files = [...files.values()];
    this.#name = name;
    this.#fileOf = new Map(
      [...index.weightMap].map(([tensor, shard]) => [tensor, files.get(shard) as SafetensorsFile]),
    );
    this.names = Object.freeze([...index.weightMap.keys()]);
    this.shards = Object.freeze([...index.shards]);
    const metadata = new Map<string, string>();
    for (const file of this.#files) {
      for (const [key, text] of file.metadata) if (!metadata.has(key)) metadata.set(key, text);
    }
    this.metadata = metadata;
  }

  /**
   * Checks the index against the shards' contents and joins them. The result
   * owns the files and closes them with itself; on failure they stay open.
   *
   * @param index the parsed index
   * @param files the open shards by file name; a shard left out is reported as missing
   * @throws SafetensorsError that lists every problem at once: "missing_shard", "missing_tensor" (not in the shard
   *   that the index names), "duplicate" (in two shards), "unlisted_tensor", or "invalid_index" when several kinds came together
   */
  static join(
    index: ShardIndex,
    files: ReadonlyMap<string, SafetensorsFile>,
    options: JoinShardsOptions = {},
  ): ShardedSafetensors {
    const problems = crossCheck(index, files, options.unlisted ?? 'error');
    throwProblems(problems, {
      problem: `the index and its shards contradict each other in ${problems.length} place${problems.length === 1 ? '' : 's'}`,
      ...(options.name === undefined ? {} : { file: options.name }),
      fix: 'Fetch the whole model again from one revision',
      mixed: 'invalid_index',
    });
    return new ShardedSafetensors(index, files, options.name);
  }

  has(name: string): boolean {
    return this.#fileOf.has(name);
  }

  info(name: string): TensorInfo {
    return this.#file(name).info(name);
  }

  async readBytes(name: string, options?: ReadBytesOptions): Promise<Uint8Array> {
    return this.#file(name).readBytes(name, options);
  }

  async readInto(name: string, target: Uint8Array, begin?: number): Promise<void> {
    await this.#file(name).readInto(name, target, begin);
  }

  async readFloat32(name: string): Promise<Float32Array> {
    return this.#file(name).readFloat32(name);
  }

  async *stream(name: string, options?: StreamOptions): AsyncIterableIterator<Uint8Array> {
    yield* this.#file(name).stream(name, options);
  }

  async close(): Promise<void> {
    await Promise.all(this.#files.map((file) => file.close()));
  }

  [Symbol.asyncDispose](): Promise<void> {
    return this.close();
  }

  #file(name: string): SafetensorsFile {
    const file = this.#fileOf.get(name);
    if (file === undefined) throw missingTensor(name, this.names, this.#name);
    return file;
  }
}

function crossCheck(
  index: ShardIndex,
  files: ReadonlyMap<string, SafetensorsFile>,
  unlisted: 'error' | 'ignore',
): SafetensorsError[] {
  const problems: SafetensorsError[] = [];
  for (const file of index.shards) {
    if (files.has(file)) continue;
    const count = [...index.weightMap.values()].filter((shard) => shard === file).length;
    problems.push(
      new SafetensorsError('missing_shard', {
        problem: `the shard isn't there; the index places ${count} tensors in it`,
        file,
      }),
    );
  }
  for (const [tensor, shard] of index.weightMap) {
    const file = files.get(shard);
    if (file === undefined || file.has(tensor)) continue;
    problems.push(
      new SafetensorsError('missing_tensor', {
        problem: "the index places the tensor in this shard, which doesn't hold it",
        file: shard,
        tensor,
      }),
    );
  }
  const firstShard = new Map<string, string>();
  for (const shard of index.shards) {
    for (const tensor of files.get(shard)?.names ?? []) {
      const other = firstShard.get(tensor);
      if (other !== undefined) {
        problems.push(
          new SafetensorsError('duplicate', { problem: `the tensor is also in ${other}`, file: shard, tensor }),
        );
        continue;
      }
      firstShard.set(tensor, shard);
      if (unlisted === 'error' && !index.weightMap.has(tensor)) {
        problems.push(
          new SafetensorsError('unlisted_tensor', {
            problem: "the index doesn't list this tensor of the shard",
            file: shard,
            tensor,
          }),
        );
      }
    }
  }
  return problems;
}
