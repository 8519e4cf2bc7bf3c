import { type Device, ZebraError } from '@zebra/tensor';
import { type OpenFolderOptions, openSafetensorsFolder, readCompanion } from '@zebra/tensor/safetensors';
import {
  type HybridConfig,
  parseHybridConfig,
  parseTransformerConfig,
  parseXEcoMlaConfig,
  type TransformerConfig,
} from '../config/index.js';
import { HybridModel } from '../models/model.js';
import { type ModelSpec, type ModelSpecOptions, modelSpec } from '../models/model-spec.js';
import { modelSpecs } from '../models/specs.js';
import { type LoadWeightsOptions, loadWeights } from './load-weights.js';

/**
 * Options of {@link loadModel}. With `dtype: 'float16'` matrices are float16 and the model computes in it, for
 * inference; for training in mixed precision leave the weights float32 and give `computeDType: 'float16'` alone.
 * `computeDType` is `dtype` unless it is given.
 */
export interface LoadModelOptions
  extends Pick<LoadWeightsOptions, 'dtype' | 'oversized' | 'onProgress'>,
    ModelSpecOptions {
  /**
   * Folder below which files that are links must lie: for a snapshot in the Hugging Face cache, its repository's folder.
   * Default: the model's own folder.
   */
  readonly linkRoot?: OpenFolderOptions['linkRoot'];
}

/**
 * Loads a model from a Hugging Face folder: `config.json`, `hybrid_config.json` where it is a hybrid, and
 * `model.safetensors` or its shards. The layouts of MambaInLlama (`mamba_config.json`) and X-EcoMLA
 * (`MLA_config.json`, `mla_layer_config.json`) are read as well. Weights stream to the device in bounded host memory.
 *
 * @returns the model, owned by the caller
 * @throws errors that `ZebraError.is` knows: `io` without the files, `format` for configs and weights that do not fit,
 *   `data` for NaN weights and those that float16 cannot hold, and the codes of `SafetensorsError` for damaged files
 */
export async function loadModel(device: Device, folder: string, options: LoadModelOptions = {}): Promise<HybridModel> {
  const { dtype = 'float32' } = options;
  const spec = await readModelSpec(folder, { computeDType: dtype, ...options });
  const reader = await openSafetensorsFolder(folder, { linkRoot: options.linkRoot });
  try {
    const ignored = new Set(spec.config.tieWordEmbeddings ? ['lm_head.weight'] : []);
    const weights = await loadWeights(device, reader, modelSpecs(spec), { ...options, ignored });
    try {
      return new HybridModel(device, spec, weights);
    } catch (error) {
      for (const weight of weights.values()) weight.dispose();
      throw error;
    }
  } finally {
    await reader.close();
  }
}

/** Reads what a model is from its folder, without its weights. */
export async function readModelSpec(folder: string, options: ModelSpecOptions = {}): Promise<ModelSpec> {
  const json = await readJson(folder, 'config.json');
  if (json === undefined) {
    throw new ZebraError(
      'io',
      `loadModel: ${folder} has no config.json. Give the folder of a Hugging Face checkpoint.`,
    );
  }
  const config = parseTransformerConfig(json);
  return modelSpec(config, await readHybrid(folder, config), options);
}

/** The hybrid that a folder describes in one of the known layouts, undefined for a plain Transformer. */
async function readHybrid(folder: string, config: TransformerConfig): Promise<HybridConfig | undefined> {
  for (const file of ['hybrid_config.json', 'mamba_config.json']) {
    const json = await readJson(folder, file);
    if (json !== undefined) return parseHybridConfig(json, config, { file });
  }
  const outer = await readJson(folder, 'MLA_config.json');
  if (outer === undefined) return undefined;
  return parseXEcoMlaConfig(outer, (await readJson(folder, 'mla_layer_config.json')) ?? {}, config);
}

/**
 * A JSON file of a model's folder, or undefined where there is none. In the middle of a save, or after a killed one, it
 * is the one that belongs to the weights that are there.
 */
export async function readJson(folder: string, name: string): Promise<unknown> {
  const { join } = await import('node:path');
  let text: string | undefined;
  try {
    text = await readCompanion(folder, name);
  } catch (error) {
    throw new ZebraError('io', `${join(folder, name)} could not be read: ${(error as Error).message}`, {
      cause: error,
    });
  }
  if (text === undefined) return undefined;
  try {
    return JSON.parse(text);
  } catch (error) {
    throw new ZebraError('format', `${join(folder, name)} is no JSON: ${(error as Error).message}`, { cause: error });
  }
}
