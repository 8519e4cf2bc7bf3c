import { type Tensor, ZebraError } from '@zebra/tensor';
import type { LayeredCausalLM } from '@zebra/tensor/nn';
import {
  fromFloat32,
  type TensorInput,
  type WriterFileSystem,
  writeSafetensorsFolder,
} from '@zebra/tensor/safetensors';
import { writeHybridConfig } from '../config/index.js';
import type { ModelSpec } from '../models/model-spec.js';

/** Files that travel with a model unchanged, where its source folder has them. */
const COMPANIONS = [
  'tokenizer.json',
  'tokenizer_config.json',
  'special_tokens_map.json',
  'generation_config.json',
  'chat_template.jinja',
];

/** Options of {@link saveModel}. */
export interface SaveModelOptions {
  /** What `config.json` holds: as a rule the teacher's own, unchanged. */
  readonly configJson: Readonly<Record<string, unknown>>;
  /** Element type of the stored weights. Default `float32`. */
  readonly dtype?: 'float32' | 'float16' | 'bfloat16';
  /** Folder to copy tokenizer and generation files from. */
  readonly companionsFrom?: string;
  /** Largest shard in bytes. Default 5e9. */
  readonly maxShardBytes?: number;
  /** The file system that weights are written to. Default: the local disk. */
  readonly fileSystem?: WriterFileSystem;
}

const STORED = { float32: 'F32', float16: 'F16', bfloat16: 'BF16' } as const;
/** From here on a number rounds to infinity. */
const OVERFLOW = { float32: Number.POSITIVE_INFINITY, float16: 65520, bfloat16: 2 ** 128 - 2 ** 119 } as const;

/**
 * Saves a model in the released layout: `config.json`, `hybrid_config.json` where it is a hybrid (with the head stored
 * even when tied, as the reference does), weights, and the tokenizer's files. Weights are written to temporary names,
 * synced and renamed: a kill leaves the old weights or the new ones whole. The configs follow the weights; a kill just
 * between them, when the architecture changed too, leaves a folder that loading refuses: save again.
 *
 * @throws ZebraError `data` for a weight that is not finite, or that the stored type cannot hold
 */
export async function saveModel(
  folder: string,
  model: LayeredCausalLM,
  spec: ModelSpec,
  options: SaveModelOptions,
): Promise<void> {
  const { copyFile, mkdir, rm, stat } = await import('node:fs/promises');
  const { join } = await import('node:path');
  const { dtype = 'float32', companionsFrom, maxShardBytes, fileSystem } = options;
  await mkdir(folder, { recursive: true });
  const parameters = new Map(model.namedParameters());
  if (spec.hybrid && !parameters.has('lm_head.weight')) parameters.set('lm_head.weight', model.headWeight);
  const inputs = [...parameters].map(
    ([name, parameter]): TensorInput => ({
      name,
      dtype: STORED[dtype],
      shape: parameter.shape,
      data: async () => encode(name, parameter, dtype),
    }),
  );
  await writeSafetensorsFolder(folder, inputs, {
    metadata: { format: 'pt' },
    ...(maxShardBytes !== undefined && { maxShardBytes }),
    ...(fileSystem && { fileSystem }),
  });
  await writeText(join(folder, 'config.json'), `${JSON.stringify(options.configJson, undefined, 2)}\n`);
  const hybridPath = join(folder, 'hybrid_config.json');
  if (spec.hybrid) await writeText(hybridPath, writeHybridConfig(spec.hybrid));
  // One that an earlier model left would make this one a hybrid.
  else await rm(hybridPath, { force: true });
  for (const name of companionsFrom ? COMPANIONS : []) {
    const source = join(companionsFrom as string, name);
    if (await stat(source).catch(() => undefined)) await copyFile(source, join(folder, name));
  }
}

async function encode(name: string, parameter: Tensor, dtype: keyof typeof STORED): Promise<Uint8Array> {
  const values = (await parameter.read()) as Float32Array;
  const limit = OVERFLOW[dtype];
  // NaN is below no limit.
  const at = values.findIndex((value) => !(Math.abs(value) < limit));
  if (at >= 0) {
    const value = values[at]!;
    const advice = Number.isFinite(value)
      ? `Save as ${dtype === 'float16' ? 'float32 or bfloat16' : 'float32'}.`
      : 'Its training diverged; go back to an earlier checkpoint.';
    throw new ZebraError(
      'data',
      `saveModel: ${name} holds ${value} at element ${at}, ${Number.isFinite(value) ? `which ${dtype} cannot hold` : 'which no checkpoint may hold'}. ${advice}`,
    );
  }
  return fromFloat32(values, STORED[dtype]);
}

/** Writes a small file by temporary name, sync and rename. */
async function writeText(path: string, text: string): Promise<void> {
  const { open, rename, rm } = await import('node:fs/promises');
  const temporary = `${path}.${process.pid}.tmp`;
  try {
    const handle = await open(temporary, 'w');
    try {
      await handle.writeFile(text);
      await handle.sync();
    } finally {
      await handle.close();
    }
    await rename(temporary, path);
  } catch (error) {
    await rm(temporary, { force: true }).catch(() => undefined);
    throw new ZebraError(
      'io',
      `saveModel: ${path} could not be written: ${(error as Error).message}. See that the folder is writable and the disk has room, then save again.`,
      { cause: error },
    );
  }
}
