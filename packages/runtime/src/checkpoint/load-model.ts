import { type Device, ZebraError } from '@zebra/tensor';
import { type OpenFolderOptions, openSafetensorsFolder } from '@zebra/tensor/safetensors';
import { parseHybridConfig, parseTransformerConfig } from '../config/index.js';
import { HybridModel } from '../models/model.js';
import { type ModelSpec, type ModelSpecOptions, modelSpec } from '../models/model-spec.js';
import { modelSpecs } from '../models/specs.js';
import { type LoadWeightsOptions, loadWeights } from './load-weights.js';

/** Options of {@link loadModel}. */
export interface LoadModelOptions extends Pick<LoadWeightsOptions, 'onProgress'>, ModelSpecOptions {
  /**
   * Folder below which files that are links must lie: for a snapshot in the Hugging Face cache, its repository's folder.
   * Default: the model's own folder.
   */
  readonly linkRoot?: OpenFolderOptions['linkRoot'];
}

/**
 * Loads a model from a Hugging Face folder: `config.json`, `hybrid_config.json` where it is a hybrid, and
 * `model.safetensors` or its shards. Weights become float32.
 *
 * @returns the model, owned by the caller
 * @throws errors that `ZebraError.is` knows: `io` without the files, `format` for configs and weights that do not fit,
 *   `data` for NaN weights, and the codes of `SafetensorsError` for damaged weight files
 */
export async function loadModel(device: Device, folder: string, options: LoadModelOptions = {}): Promise<HybridModel> {
  const spec = await readModelSpec(folder, options);
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
  const hybrid = await readJson(folder, 'hybrid_config.json');
  return modelSpec(config, hybrid === undefined ? undefined : parseHybridConfig(hybrid, config), options);
}

/** A JSON file of a folder, or undefined where there is none. */
export async function readJson(folder: string, name: string): Promise<unknown> {
  const { readFile } = await import('node:fs/promises');
  const { join } = await import('node:path');
  let text: string;
  try {
    text = await readFile(join(folder, name), 'utf8');
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'ENOENT') return undefined;
    throw new ZebraError('io', `${join(folder, name)} could not be read: ${(error as Error).message}`, {
      cause: error,
    });
  }
  try {
    return JSON.parse(text);
  } catch (error) {
    throw new ZebraError('format', `${join(folder, name)} is no JSON: ${(error as Error).message}`, { cause: error });
  }
}
