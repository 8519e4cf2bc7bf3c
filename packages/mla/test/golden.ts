import { readdirSync, readFileSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import { openSafetensors } from '@zebra/tensor/safetensors';
import type { MlaConfig } from '../src/index.js';

const FOLDER = new URL('./goldens/', import.meta.url);

/** Values and shape of one tensor of a golden file. */
export interface GoldenTensor {
  readonly shape: readonly number[];
  readonly data: Float32Array;
}

/** One case: what the reference implementation computed from given weights. */
export interface Golden {
  readonly config: MlaConfig;
  readonly weights: ReadonlyMap<string, GoldenTensor>;
  /** Inputs, outputs and gradients by name. */
  readonly values: ReadonlyMap<string, GoldenTensor>;
}

/** Names of all cases. */
export const goldenNames = readdirSync(FOLDER);

export async function loadGolden(name: string): Promise<Golden> {
  const folder = new URL(`${name}/`, FOLDER);
  const json = JSON.parse(readFileSync(new URL('hybrid_config.json', folder), 'utf8'));
  const scaling = json.rope_scaling;
  const config: MlaConfig = {
    hiddenSize: json.hidden_size,
    headCount: json.num_attention_heads,
    keyValueHeadCount: json.num_key_value_heads,
    qLoraRank: json.q_lora_rank,
    kvLoraRank: json.kv_lora_rank,
    qkNopeHeadDim: json.qk_nope_head_dim,
    qkRopeHeadDim: json.qk_rope_head_dim,
    vHeadDim: json.v_head_dim,
    useLoraLayerNorm: json.use_lora_layer_norm,
    useFullKvHead: json.use_full_kv_head,
    rope: {
      theta: json.rope_theta,
      scaling: scaling && {
        factor: scaling.factor,
        originalMaxPositionEmbeddings: scaling.original_max_position_embeddings,
      },
    },
  };
  return {
    config,
    weights: await readAll(new URL('weights.safetensors', folder)),
    values: await readAll(new URL('golden.safetensors', folder)),
  };
}

async function readAll(url: URL): Promise<Map<string, GoldenTensor>> {
  await using file = await openSafetensors(fileURLToPath(url));
  const tensors = new Map<string, GoldenTensor>();
  for (const name of file.names) {
    tensors.set(name, { shape: file.info(name).shape, data: await file.readFloat32(name) });
  }
  return tensors;
}
