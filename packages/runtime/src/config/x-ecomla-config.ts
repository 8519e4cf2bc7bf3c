import { z } from 'zod';
import type { HybridConfig } from './hybrid-config.js';
import { parseHybridConfig } from './parse-hybrid-config.js';
import { Problems } from './problems.js';
import { layerCount, layerList, readFields, readObject } from './schema.js';
import type { TransformerConfig } from './transformer-config.js';

const outerSchema = z.looseObject({ n_layer: layerCount, attn_layers: layerList.nullish() });

/**
 * What a key that `mla_layer_config.json` leaves out means: the file holds only what differs from these. (The values
 * are facts of X-EcoMLA's published layout.)
 */
const DEFAULTS = {
  hidden_size: 7168,
  num_attention_heads: 128,
  llama_num_key_value_heads: 128,
  kv_lora_rank: 512,
  q_lora_rank: 1536,
  use_lora_layer_norm: false,
  qk_rope_head_dim: 64,
  v_head_dim: 128,
  qk_nope_head_dim: 128,
  qkv_rank_divisor: 8,
  max_position_embeddings: 4096,
  rope_theta: 10000,
  rope_scaling: null,
  rope_type: 'yarn',
  attention_bias: false,
  layer_rank_list: {},
} as const;

/**
 * Reads the layout of X-EcoMLA: `MLA_config.json` says which layers stay attention, `mla_layer_config.json` what the
 * others, which are MLA, look like. Keys and values are made for every query head.
 *
 * @param outer `MLA_config.json`: the text, or the parsed object
 * @param inner `mla_layer_config.json`
 * @param transformer the `config.json` beside them
 * @throws ZebraError `format` that names the file and every key that is wrong or contradicts another
 */
export function parseXEcoMlaConfig(outer: unknown, inner: unknown, transformer: TransformerConfig): HybridConfig {
  const outerKeys = readObject('MLA_config.json', outer);
  const { n_layer, attn_layers } = readFields('MLA_config.json', outerSchema, outerKeys);
  const layer: Record<string, unknown> = { ...DEFAULTS, ...readObject('mla_layer_config.json', inner) };
  const attention = new Set(attn_layers ?? []);
  const scaling = layer.rope_scaling;
  const keys = {
    hidden_size: layer.hidden_size,
    intermediate_size: outerKeys.intermediate_size,
    hidden_act: outerKeys.hidden_act,
    n_layer,
    mla_layers: Array.from({ length: n_layer }, (_, i) => i).filter((i) => !attention.has(i)),
    attn_layers: attn_layers ?? undefined,
    rms_norm_eps: outerKeys.rms_norm_eps,
    num_attention_heads: layer.num_attention_heads,
    num_key_value_heads: layer.llama_num_key_value_heads,
    kv_lora_rank: layer.kv_lora_rank,
    q_lora_rank: layer.q_lora_rank,
    use_lora_layer_norm: layer.use_lora_layer_norm,
    use_full_kv_head: true,
    qk_rope_head_dim: layer.qk_rope_head_dim,
    v_head_dim: layer.v_head_dim,
    qk_nope_head_dim: layer.qk_nope_head_dim,
    qkv_rank_divisor: layer.qkv_rank_divisor,
    max_position_embeddings: layer.max_position_embeddings,
    rope_theta: layer.rope_theta,
    rope_scaling: isObject(scaling) ? { original_max_position_embeddings: 4096, ...scaling } : scaling,
    rope_type: layer.rope_type,
    attention_bias: layer.attention_bias,
    layer_rank_list: layer.layer_rank_list,
    d_model: outerKeys.d_model,
  };
  checkScaling(scaling);
  const given = Object.entries(keys).filter(([, value]) => value !== undefined);
  return parseHybridConfig(Object.fromEntries(given), transformer, { file: 'MLA_config.json, mla_layer_config.json' });
}

/** Factors of YaRN that its usual values are built in for. */
function checkScaling(scaling: unknown): void {
  if (!isObject(scaling)) return;
  const problems = new Problems('mla_layer_config.json');
  for (const [key, value] of Object.entries({ beta_fast: 32, beta_slow: 1, mscale: 1, mscale_all_dim: 0 })) {
    const got = scaling[key];
    if (got !== undefined && got !== value) problems.expected(`rope_scaling.${key}`, `${value} or nothing`, got);
  }
  problems.throwIfAny();
}

function isObject(value: unknown): value is Record<string, unknown> {
  return typeof value === 'object' && value !== null && !Array.isArray(value);
}
