import { type Tensor, ZebraError } from '@zebra/tensor';
import type { LayeredCausalLM } from '@zebra/tensor/nn';
import { fromFloat32, type TensorInput, writeSafetensorsFolder } from '@zebra/tensor/safetensors';
import { writeHybridConfig } from '../config/index.js';
import type { ModelSpec } from '../models/model-spec.js';

/** Files that travel with a model unchanged, where its source folder has them. */
const COMPANIONS = ['tokenizer.json', 'tokenizer_config.json', 'special_tokens_map.json', 'generation_config.json', 'chat_template.jinja'];

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
}

const STORED = { float32: 'F32', float16: 'F16', bfloat16: 'BF16' } as const;
const LARGEST_FLOAT16 = 65504;

/**
 * Saves a model in the released layout: `config.json`, `hybrid_config.json` where it is a hybrid (with the head stored
 * even when tied, as the reference does), weights, and the tokenizer's files. Weights are written to temporary names,
 * synced and renamed; a kill leaves the old model or the new one.
 *
 * @throws ZebraError `data` for a weight that float16 cannot hold
 */
export async function saveModel(
  folder: string,
  model: LayeredCausalLM,
  spec: ModelSpec,
  options: SaveModelOptions,
): Promise<void> {
  const { copyFile, mkdir, stat } = await import('node:fs/promises');
  const { join } = await import('node:path');
  const { dtype = 'float32', companionsFrom, maxShardBytes } = options;
  await mkdir(folder, { recursive: true });
  const parameters = new Map(model.namedParameters());
  if (spec.hybrid && !parameters.has('lm_head.weight')) parameters.set('lm_head.weight', model.headWeight);
  const inputs = [...parameters].map(([name, parameter]): TensorInput => ({
    name,
    dtype: STORED[dtype],
    shape: parameter.shape,
    data: async () => encode(name, parameter, dtype),
  }));
  await writeSafetensorsFolder(folder, inputs, {
    metadata: { format: 'pt' },
    ...(maxShardBytes !== undefined && { maxShardBytes }),
  });
  await writeText(join(folder, 'config.json'), `${JSON.stringify(options.configJson, undefined, 2)}\n`);
  if (spec.hybrid) await writeText(join(folder, 'hybrid_config.json'), writeHybridConfig(spec.hybrid));
  for (const name of companionsFrom ? COMPANIONS : []) {
    const source = join(companionsFrom as string, name);
    if (await stat(source).catch(() => undefined)) await copyFile(source, join(folder, name));
  }
}

async function encode(name: string, parameter: Tensor, dtype: keyof typeof STORED): Promise<Uint8Array> {
  const values = (await parameter.read()) as Float32Array;
  if (dtype === 'float16') {
    const at = values.findIndex((value) => Math.abs(value) > LARGEST_FLOAT16);
    if (at >= 0) {
      throw new ZebraError('data', `saveModel: ${name} holds ${values[at]} at element ${at}, which float16 cannot. Save as float32 or bfloat16.`);
    }
  }
  return fromFloat32(values, STORED[dtype]);
}

/** Writes a small file by temporary name and rename. */
async function writeText(path: string, text: string): Promise<void> {
  const { rename, writeFile } = await import('node:fs/promises');
  const temporary = `${path}.${process.pid}.tmp`;
  await writeFile(temporary, text);
  await rename(temporary, path);
}
