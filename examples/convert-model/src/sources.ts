import { realpath, stat } from 'node:fs/promises';
import { dirname, join, resolve } from 'node:path';
import {
  downloadModel,
  type HybridConfig,
  presetHybridConfig,
  presets,
  proposeHybrid,
  readModelSpec,
  type TransformerConfig,
} from '@zebra/runtime';
import { ZebraError } from '@zebra/tensor';
import type { ConvertOptions } from './options.js';

/** A folder as it is, or the hub's files in the cache. */
export async function folderOf(model: string): Promise<string> {
  const found = await stat(model).catch(() => undefined);
  if (found?.isDirectory()) return model;
  if (found) throw new ZebraError('argument', `${model} is a file. Give the folder of the checkpoint.`);
  if (!/^[\w.-]+\/[\w.-]+$/.test(model) || model.startsWith('.')) {
    throw new ZebraError('argument', `${model}: no such folder, and not a hub name (org/name)`);
  }
  try {
    return (await downloadModel(model)).folder;
  } catch (cause) {
    if (!ZebraError.is(cause)) throw cause;
    throw new ZebraError('io', `${model}: no such folder. ${cause.message}`, { cause });
  }
}

/**
 * Throws where what is written would replace what is read: a hybrid's files have the names of its teacher's.
 *
 * @param folder of the teacher
 */
export async function assertApart(folder: string, out: string): Promise<void> {
  const real = await realpath(folder);
  if ((await realOf(out)) !== real) return;
  throw new ZebraError('argument', `--out ${out} is the folder of the model itself, whose weights would be replaced`);
}

/** The real path of what may not be there yet: links count as far as there is something. */
async function realOf(path: string): Promise<string> {
  const full = resolve(path);
  try {
    return await realpath(full);
  } catch {
    const parent = dirname(full);
    return parent === full ? full : join(await realOf(parent), full.slice(parent.length));
  }
}

/** The config of a Transformer; throws where the folder holds a hybrid, which there is nothing to make of. */
export async function transformerOf(folder: string, model: string): Promise<TransformerConfig> {
  const { config, layers } = await readModelSpec(folder);
  if (layers.every((kind) => kind === 'attention')) return config;
  throw new ZebraError('argument', `${model} is a hybrid already. Give the Transformer that it is to be made of.`);
}

const SHAPE = ['layerCount', 'hiddenSize', 'headCount', 'keyValueHeadCount', 'headDim'] as const;

/** What each layer becomes. */
export function hybridOf(config: TransformerConfig, { model, preset, mlaLayers }: ConvertOptions): HybridConfig {
  if (!preset) {
    const quarter = Math.max(1, Math.round(config.layerCount / 4));
    return proposeHybrid(config, { mlaLayers: mlaLayers ?? quarter }).hybrid;
  }
  const { base } = presets[preset];
  const apart = SHAPE.filter((name) => config[name] !== base.config[name]);
  if (apart.length > 0) {
    const shown = apart.map((name) => `${name} ${base.config[name]} and not ${config[name]}`).join(', ');
    throw new ZebraError(
      'argument',
      `--preset ${preset} does not fit ${model}: it is for ${base.name}, with ${shown}. Give --mla-layers instead.`,
    );
  }
  return presetHybridConfig(preset);
}
