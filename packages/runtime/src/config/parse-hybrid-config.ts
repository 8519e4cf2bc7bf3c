import { z } from 'zod';
import type { HybridConfig, HybridLayerKind, HybridMamba2Config, HybridMlaConfig, MlaRanks } from './hybrid-config.js';
import { Problems } from './problems.js';
import {
  aboveOne,
  atLeastOne,
  boolean,
  layerCount,
  layerList,
  nonNegative,
  object,
  positive,
  positiveInteger,
  readFields,
  readObject,
  text,
} from './schema.js';
import { MOST_HEAD_DIM, type ParseConfigOptions, type TransformerConfig } from './transformer-config.js';

const scalingSchema = z.looseObject(
  {
    factor: atLeastOne.nullish(),
    original_max_position_embeddings: positiveInteger.nullish(),
    rope_type: text.nullish(),
    type: text.nullish(),
  },
  'an object or null',
);

const hybridSchema = z.looseObject({
  hidden_size: positiveInteger.optional(),
  intermediate_size: positiveInteger.optional(),
  hidden_act: z.literal('silu', '"silu"').optional(),
  n_layer: layerCount,
  mla_layers: layerList.optional(),
  attn_layers: layerList.optional(),
  rms_norm_eps: positive.optional(),
  num_attention_heads: positiveInteger.optional(),
  num_key_value_heads: positiveInteger.optional(),
  kv_lora_rank: positiveInteger.optional(),
  q_lora_rank: positiveInteger.nullish(),
  use_lora_layer_norm: boolean.optional(),
  use_full_kv_head: boolean.optional(),
  qk_rope_head_dim: positiveInteger
    .max(MOST_HEAD_DIM, `at most ${MOST_HEAD_DIM}`)
    .multipleOf(2, 'an even number, as rotary positions turn pairs')
    .optional(),
  v_head_dim: positiveInteger.optional(),
  qk_nope_head_dim: positiveInteger.optional(),
  qkv_rank_divisor: positiveInteger.optional(),
  max_position_embeddings: positiveInteger.optional(),
  rope_theta: aboveOne.optional(),
  rope_scaling: scalingSchema.nullish(),
  attention_bias: z.literal(false, 'false (biases in MLA are not supported)').nullish(),
  attention_dropout: nonNegative.nullish(),
  rope_type: text.nullish(),
  d_model: positiveInteger.optional(),
  ssm_cfg: z
    .looseObject(
      {
        expand: positive.optional(),
        ngroups: positiveInteger,
        d_state: positiveInteger,
        repeat_kv_before_conv: boolean.optional(),
        d_conv: z.literal(4, '4, the only width supported').optional(),
      },
      'an object',
    )
    .optional(),
  d_inner: positiveInteger.optional(),
  d_xb: positiveInteger.optional(),
  layer_rank_list: z.record(z.string(), object, 'an object').nullish(),
});

const ranksSchema = z.looseObject({ q_rank: positiveInteger.nullish(), kv_rank: positiveInteger.nullish() });

type HybridKeys = z.output<typeof hybridSchema>;

/**
 * Reads a `hybrid_config.json` in the released layout: a layer of `mla_layers` is MLA, every other one Mamba2.
 *
 * Half-attention hybrids (MambaInLlama) name the layers that stay attention in `attn_layers`; then `mla_layers` may be
 * missing. Accepted as well: `rope_scaling` of type "llama3" under a top-level `rope_type` of "yarn" or none (it means
 * YaRN), `type` for `rope_type`, an `ssm_cfg` without `repeat_kv_before_conv` (false), and `layer_rank_list`. How ranks
 * were chosen (`use_fixed_rank_for_first_and_last_block`, `q_energy_ratio`, `kv_energy_ratio`) does not matter here and
 * is dropped, as are dropout and unknown keys.
 *
 * @param json the text, or the parsed object
 * @param transformer the `config.json` beside it, which the sizes must agree with
 * @throws ZebraError `format` that names the file and every key that is wrong or contradicts another
 */
export function parseHybridConfig(
  json: unknown,
  transformer: TransformerConfig,
  options: ParseConfigOptions = {},
): HybridConfig {
  const file = options.file ?? 'hybrid_config.json';
  const keys = readFields(file, hybridSchema, readObject(file, json));
  const problems = new Problems(file);
  checkAgainst(keys, transformer, problems);
  const layers = parseLayers(keys, problems);
  const mla = parseMla(keys, transformer, layers, problems);
  const mamba2 = parseMamba2(keys, transformer, layers, problems);
  problems.throwIfAny();
  return {
    layers,
    hiddenSize: transformer.hiddenSize,
    intermediateSize: transformer.intermediateSize,
    headCount: transformer.headCount,
    keyValueHeadCount: transformer.keyValueHeadCount,
    normEpsilon: transformer.normEpsilon,
    maxPositionEmbeddings: keys.max_position_embeddings ?? transformer.maxPositionEmbeddings,
    mla,
    mamba2,
  };
}

function checkAgainst(keys: HybridKeys, transformer: TransformerConfig, problems: Problems): void {
  const wanted = {
    hidden_size: transformer.hiddenSize,
    d_model: transformer.hiddenSize,
    intermediate_size: transformer.intermediateSize,
    n_layer: transformer.layerCount,
    num_attention_heads: transformer.headCount,
    num_key_value_heads: transformer.keyValueHeadCount,
    rms_norm_eps: transformer.normEpsilon,
    d_inner: transformer.headCount * transformer.headDim,
    d_xb: transformer.keyValueHeadCount * transformer.headDim,
  } as const;
  for (const [key, value] of Object.entries(wanted)) {
    const got = keys[key as keyof typeof wanted];
    if (got !== undefined && got !== value) problems.expected(key, `${value}, as config.json says`, got);
  }
}

function parseLayers(keys: HybridKeys, problems: Problems): HybridLayerKind[] {
  if (!keys.mla_layers && !keys.attn_layers) {
    problems.expected('mla_layers', 'a list of layer numbers', undefined);
  }
  const layers = new Array<HybridLayerKind>(keys.n_layer).fill('mamba2');
  const place = (key: 'mla_layers' | 'attn_layers', kind: HybridLayerKind) => {
    const list = keys[key] ?? [];
    if (list.some((layer) => layer >= keys.n_layer)) {
      problems.expected(key, `layers below n_layer (${keys.n_layer})`, list);
    } else if (list.some((layer) => layers[layer] !== 'mamba2') || new Set(list).size !== list.length) {
      problems.expected(key, 'layers that are named once, in one of mla_layers and attn_layers', list);
    }
    for (const layer of list) if (layer < keys.n_layer) layers[layer] = kind;
  };
  place('mla_layers', 'mla');
  place('attn_layers', 'attention');
  return layers;
}

function parseMla(
  keys: HybridKeys,
  transformer: TransformerConfig,
  layers: readonly HybridLayerKind[],
  problems: Problems,
): HybridMlaConfig {
  const used = layers.includes('mla');
  const needed = (key: 'kv_lora_rank' | 'qk_rope_head_dim' | 'qk_nope_head_dim' | 'v_head_dim', otherwise: number) => {
    if (used && keys[key] === undefined)
      problems.expected(key, 'a positive integer, as there are MLA layers', undefined);
    return keys[key] ?? otherwise;
  };
  if (used && keys.q_lora_rank === undefined) {
    problems.expected('q_lora_rank', 'a positive integer, or null for one full q_proj', undefined);
  }
  const { headDim } = transformer;
  const ranks: MlaRanks = { qLoraRank: keys.q_lora_rank ?? null, kvLoraRank: needed('kv_lora_rank', 2 * headDim) };
  const layerRanks = parseRanks(keys, layers, ranks, problems);
  return {
    ...ranks,
    qkNopeHeadDim: needed('qk_nope_head_dim', headDim / 2),
    qkRopeHeadDim: needed('qk_rope_head_dim', headDim / 2),
    vHeadDim: needed('v_head_dim', headDim),
    useLoraLayerNorm: keys.use_lora_layer_norm ?? false,
    useFullKvHead: keys.use_full_kv_head ?? false,
    rope: { theta: keys.rope_theta ?? transformer.rope.theta, scaling: parseScaling(keys, problems) },
    ...(layerRanks.size > 0 && { layerRanks }),
    qkvRankDivisor: keys.qkv_rank_divisor ?? 8,
  };
}

function parseScaling(keys: HybridKeys, problems: Problems): HybridMlaConfig['rope']['scaling'] {
  const outer = keys.rope_type ?? undefined;
  if (outer !== undefined && outer !== 'yarn') problems.expected('rope_type', '"yarn" or nothing', outer);
  const scaling = keys.rope_scaling;
  if (!scaling) return null;
  const inner = scaling.rope_type ?? scaling.type ?? outer;
  if (inner === 'default') return null;
  // Written by copying the teacher's scaling: factor and original length are meant, for YaRN.
  if (inner !== 'yarn' && inner !== 'llama3') problems.expected('rope_scaling.rope_type', '"yarn" or "llama3"', inner);
  const { factor, original_max_position_embeddings: original } = scaling;
  if (!factor) problems.expected('rope_scaling.factor', 'a number of at least 1', factor);
  if (!original) problems.expected('rope_scaling.original_max_position_embeddings', 'a positive integer', original);
  return { factor: factor ?? 1, originalMaxPositionEmbeddings: original ?? 1 };
}

/** Ranks of the MLA layers that differ from the common ones. */
function parseRanks(
  keys: HybridKeys,
  layers: readonly HybridLayerKind[],
  common: MlaRanks,
  problems: Problems,
): Map<number, MlaRanks> {
  const ranks = new Map<number, MlaRanks>();
  for (const [name, entry] of Object.entries(keys.layer_rank_list ?? {})) {
    const layer = /^\d+$/.test(name) ? Number(name) : Number.NaN;
    if (!(layer < layers.length)) {
      problems.expected('layer_rank_list', `layers below n_layer (${layers.length})`, name);
      continue;
    }
    const parsed = ranksSchema.safeParse(entry);
    if (!parsed.success) {
      problems.expected(`layer_rank_list.${name}`, 'q_rank and kv_rank, positive integers', entry);
      continue;
    }
    // A list made for an all-MLA student may name layers that are something else here.
    if (layers[layer] !== 'mla') continue;
    const own = {
      qLoraRank: parsed.data.q_rank === undefined ? common.qLoraRank : parsed.data.q_rank,
      kvLoraRank: parsed.data.kv_rank ?? common.kvLoraRank,
    };
    if (own.qLoraRank !== common.qLoraRank || own.kvLoraRank !== common.kvLoraRank) ranks.set(layer, own);
  }
  return ranks;
}

function parseMamba2(
  keys: HybridKeys,
  { headCount, keyValueHeadCount, headDim }: TransformerConfig,
  layers: readonly HybridLayerKind[],
  problems: Problems,
): HybridMamba2Config {
  const ssm = keys.ssm_cfg;
  if (!ssm && layers.includes('mamba2')) {
    problems.expected('ssm_cfg', 'an object, as there are Mamba2 layers', undefined);
  }
  if (ssm && ssm.ngroups !== headCount) {
    problems.expected('ssm_cfg.ngroups', `${headCount}, the heads that config.json says`, ssm.ngroups);
  }
  if (ssm && ssm.d_state !== headDim) {
    problems.expected('ssm_cfg.d_state', `${headDim}, the head size that config.json says`, ssm.d_state);
  }
  return {
    innerSize: headCount * headDim,
    xbSize: keyValueHeadCount * headDim,
    stateSize: headDim,
    groups: headCount,
    repeatKvBeforeConv: ssm?.repeat_kv_before_conv ?? false,
    convKernel: 4,
    expand: ssm?.expand ?? 1,
  };
}
