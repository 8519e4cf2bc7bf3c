import { downloadTensor, elementCount, type FloatType, type Tensor, ZebraError } from '@zebra/tensor';
import type { LayeredCausalLM } from '@zebra/tensor/nn';
import {
  readCompanion,
  type TensorInput,
  toFloat32,
  type WriterFileSystem,
  writeSafetensorsFolder,
} from '@zebra/tensor/safetensors';
import { writeHybridConfig, writeTransformerConfig } from '../config/index.js';
import type { ModelSpec } from '../models/model-spec.js';
import { TransferMeter, type TransferProgress } from './transfer-progress.js';

/** Files that travel with a model unchanged, where its source folder has them. */
const COMPANIONS = [
  'tokenizer.json',
  'tokenizer_config.json',
  'special_tokens_map.json',
  'generation_config.json',
  'chat_template.jinja',
];

/** Configs of other layouts, which would contradict the ones that are written. */
const OTHER_LAYOUTS = ['mamba_config.json', 'MLA_config.json', 'mla_layer_config.json'];

/** Options of {@link saveModel}. */
export interface SaveModelOptions {
  /**
   * What `config.json` holds, as a rule the teacher's own: its text, which is written as it is, or an object, whose
   * floats are spelled as Python spells them where it is known that they are some (`rope_theta: 500000.0`). Default:
   * the file of `companionsFrom`, byte for byte.
   */
  readonly configJson?: string | Readonly<Record<string, unknown>>;
  /** Element type of the stored weights. Default `float32`. */
  readonly dtype?: FloatType;
  /** Folder to copy tokenizer and generation files from. */
  readonly companionsFrom?: string;
  /** Largest shard in bytes. Default 5e9. */
  readonly maxShardBytes?: number;
  /** Called at most ten times a second, and at the end. */
  readonly onProgress?: (progress: TransferProgress) => void;
  /** The file system that weights and configs are written to. Default: the local disk. */
  readonly fileSystem?: WriterFileSystem;
}

const STORED = { float32: 'F32', float16: 'F16', bfloat16: 'BF16' } as const;
const BYTES = { float32: 4, float16: 2, bfloat16: 2 } as const;
/** From here on a number rounds to infinity. */
const OVERFLOW = { float32: Number.POSITIVE_INFINITY, float16: 65520, bfloat16: 2 ** 128 - 2 ** 119 } as const;

/**
 * Saves a model in the released layout: `config.json`, `hybrid_config.json` where it is a hybrid (with the head stored
 * even when tied, as the reference does), weights in one file or, from 5 GB on, in shards with an index, and the
 * tokenizer's files. Weights are converted on the device and stream to the disk in bounded host memory (32 MiB).
 *
 * Weights and configs change together: everything is written to temporary names and synced first, the weights' rename
 * is the instant, and until the configs have their names too `.zebra-switch.json` holds them, where `loadModel` finds
 * them. A kill or a full disk at any point leaves the old model or the new one, whole; what a kill left half done the
 * next save finishes. The tokenizer's files follow one by one.
 *
 * @throws ZebraError `data` for a weight that is not finite, or that the stored type cannot hold; `argument` without
 *   anything to write into `config.json`; the codes of `SafetensorsError` for a disk that takes no more
 */
export async function saveModel(
  folder: string,
  model: LayeredCausalLM,
  spec: ModelSpec,
  options: SaveModelOptions,
): Promise<void> {
  const { dtype = 'float32', companionsFrom, maxShardBytes, fileSystem, onProgress } = options;
  const companions = new Map<string, string | undefined>([
    ['config.json', await configText(options)],
    // One that an earlier model left would make this one a hybrid.
    ['hybrid_config.json', spec.hybrid && writeHybridConfig(spec.hybrid)],
    ...OTHER_LAYOUTS.map((name) => [name, undefined] as const),
  ]);
  const parameters = new Map(model.namedParameters());
  if (spec.hybrid && !parameters.has('lm_head.weight')) parameters.set('lm_head.weight', model.headWeight);
  const bytes = [...parameters.values()].reduce((sum, { shape }) => sum + elementCount(shape) * BYTES[dtype], 0);
  const meter = new TransferMeter(bytes, onProgress);
  const inputs = [...parameters].map(
    ([name, parameter]): TensorInput => ({
      name,
      dtype: STORED[dtype],
      shape: parameter.shape,
      data: () => encoded(name, parameter, dtype, meter),
    }),
  );
  await writeSafetensorsFolder(folder, inputs, {
    metadata: { format: 'pt' },
    companions,
    ...(maxShardBytes !== undefined && { maxShardBytes }),
    ...(fileSystem && { fileSystem }),
  });
  if (companionsFrom !== undefined) await copyCompanions(companionsFrom, folder);
}

async function configText({ configJson, companionsFrom }: SaveModelOptions): Promise<string> {
  if (typeof configJson === 'string') return configJson;
  if (configJson !== undefined) return writeTransformerConfig(configJson);
  const text = companionsFrom === undefined ? undefined : await readCompanion(companionsFrom, 'config.json');
  if (text !== undefined) return text;
  throw new ZebraError(
    'argument',
    `saveModel: expected configJson, or a config.json in companionsFrom, got neither${companionsFrom === undefined ? '' : ` (${companionsFrom})`}`,
  );
}

/** A parameter's bytes as they are stored, piece by piece; throws at the end where it cannot be stored. */
async function* encoded(
  name: string,
  parameter: Tensor,
  dtype: FloatType,
  meter: TransferMeter,
): AsyncGenerator<Uint8Array, void, undefined> {
  const pieces = downloadTensor(parameter, dtype);
  try {
    for (;;) {
      const next = await pieces.next();
      if (next.done) {
        if (next.value.notFinite || next.value.overflow) await refuse(name, parameter, dtype);
        return;
      }
      yield next.value;
      meter.add(next.value.length);
    }
  } finally {
    await pieces.return({ notFinite: false, overflow: false });
  }
}

/** Throws what is wrong with a parameter that cannot be stored, with the first element that is to blame. */
async function refuse(name: string, parameter: Tensor, dtype: FloatType): Promise<never> {
  let first = 0;
  for await (const piece of downloadTensor(parameter, 'float32')) {
    const values = toFloat32(piece.slice(), 'F32');
    // NaN is below no limit.
    const at = values.findIndex((value) => !(Math.abs(value) < OVERFLOW[dtype]));
    if (at >= 0) {
      const value = values[at]!;
      const advice = Number.isFinite(value)
        ? `Save as ${dtype === 'float16' ? 'float32 or bfloat16' : 'float32'}.`
        : 'Its training diverged; go back to an earlier checkpoint.';
      const fault = Number.isFinite(value) ? `which ${dtype} cannot hold` : 'which no checkpoint may hold';
      throw new ZebraError('data', `saveModel: ${name} holds ${value} at element ${first + at}, ${fault}. ${advice}`);
    }
    first += values.length;
  }
  throw new ZebraError('data', `saveModel: ${name} cannot be stored as ${dtype}`);
}

/** Copies files by temporary name and rename. */
async function copyCompanions(from: string, folder: string): Promise<void> {
  const { copyFile, realpath, rename, rm, stat } = await import('node:fs/promises');
  const { join } = await import('node:path');
  if ((await realpath(from)) === (await realpath(folder))) return;
  for (const name of COMPANIONS) {
    const source = join(from, name);
    if (!(await stat(source).catch(() => undefined))) continue;
    const target = join(folder, name);
    const temporary = `${target}.${crypto.randomUUID()}.tmp`;
    try {
      await copyFile(source, temporary);
      await rename(temporary, target);
    } catch (error) {
      await rm(temporary, { force: true }).catch(() => undefined);
      throw new ZebraError(
        'io',
        `saveModel: ${target} could not be written: ${(error as Error).message}. See that the folder is writable and the disk has room, then save again.`,
        { cause: error },
      );
    }
  }
}
