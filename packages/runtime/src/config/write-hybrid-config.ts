import { ZebraError } from '@zebra/tensor';
import type { HybridConfig, HybridLayerKind } from './hybrid-config.js';
import { PythonFloat, type PythonJson, pythonJson } from './python-json.js';

/** Options of {@link writeHybridConfig}. */
export interface WriteHybridConfigOptions {
  /** Spaces a level. Default 1, as in the released files. */
  readonly indent?: 1 | 2;
}

/**
 * The text of a `hybrid_config.json`: the released keys in their order, with floats as Python spells them (500000.0,
 * 1e-05), and nothing more, as the reference's loader fails on extra keys.
 *
 * Two things cannot be said with these keys. A hybrid with attention layers gets `attn_layers` after `mla_layers`, and
 * one whose MLA layers differ in rank gets a `layer_rank_list` at the end; the reference's present loader reads neither.
 *
 * @throws ZebraError `argument` for a number that JSON cannot hold
 */
export function writeHybridConfig(config: HybridConfig, options: WriteHybridConfigOptions = {}): string {
  const { mla, mamba2 } = config;
  const { scaling, theta } = mla.rope;
  const attention = layersOf(config, 'attention');
  const float = (value: number) => {
    if (!Number.isFinite(value)) throw new ZebraError('argument', `writeHybridConfig: ${value} cannot be written`);
    return new PythonFloat(value);
  };
  const keys: PythonJson = {
    hidden_size: config.hiddenSize,
    intermediate_size: config.intermediateSize,
    hidden_act: 'silu',
    n_layer: config.layers.length,
    mla_layers: layersOf(config, 'mla'),
    attn_layers: attention.length > 0 ? attention : undefined,
    rms_norm_eps: float(config.normEpsilon),
    num_attention_heads: config.headCount,
    num_key_value_heads: config.keyValueHeadCount,
    kv_lora_rank: mla.kvLoraRank,
    q_lora_rank: mla.qLoraRank,
    use_lora_layer_norm: mla.useLoraLayerNorm,
    use_full_kv_head: mla.useFullKvHead,
    qk_rope_head_dim: mla.qkRopeHeadDim,
    v_head_dim: mla.vHeadDim,
    qk_nope_head_dim: mla.qkNopeHeadDim,
    qkv_rank_divisor: mla.qkvRankDivisor,
    max_position_embeddings: config.maxPositionEmbeddings,
    rope_theta: float(theta),
    rope_scaling: scaling && {
      factor: float(scaling.factor),
      original_max_position_embeddings: scaling.originalMaxPositionEmbeddings,
      rope_type: 'yarn',
    },
    attention_bias: false,
    attention_dropout: float(0),
    rope_type: 'yarn',
    d_model: config.hiddenSize,
    ssm_cfg: {
      expand: Number.isInteger(mamba2.expand) ? mamba2.expand : float(mamba2.expand),
      ngroups: mamba2.groups,
      d_state: mamba2.stateSize,
      repeat_kv_before_conv: mamba2.repeatKvBeforeConv,
    },
    d_inner: mamba2.innerSize,
    d_xb: mamba2.xbSize,
    layer_rank_list: rankList(config),
  };
  return pythonJson(keys, options.indent ?? 1);
}

function layersOf(config: HybridConfig, kind: HybridLayerKind): number[] {
  return config.layers.flatMap((found, layer) => (found === kind ? [layer] : []));
}

function rankList({ mla }: HybridConfig): PythonJson | undefined {
  if (!mla.layerRanks || mla.layerRanks.size === 0) return undefined;
  const entries = [...mla.layerRanks].map(([layer, ranks]) => [
    String(layer),
    { q_rank: ranks.qLoraRank, kv_rank: ranks.kvLoraRank },
  ]);
  return Object.fromEntries(entries) as PythonJson;
}
