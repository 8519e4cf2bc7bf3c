import { ZebraError } from '@zebra/tensor';
import { z } from 'zod';
import { Problems, showValue } from './problems.js';
import { parseRope, type RopeConfig, ropeFields } from './rope-config.js';
import { boolean, layerCount, positive, positiveInteger, readFields, readObject, tokenIds } from './schema.js';

/** Families of Transformers that can be read. */
export type TransformerType = 'llama' | 'mistral' | 'qwen2' | 'qwen3';

/** A Transformer, as its `config.json` describes it. */
export interface TransformerConfig {
  readonly modelType: TransformerType;
  readonly vocabularySize: number;
  /** Width of the residual stream, d. */
  readonly hiddenSize: number;
  /** Width of the MLP. */
  readonly intermediateSize: number;
  /** L. */
  readonly layerCount: number;
  /** Query heads, n_h. */
  readonly headCount: number;
  /** Key and value heads, n_kv; divides `headCount`. */
  readonly keyValueHeadCount: number;
  /** d_h. n_h·d_h may differ from d. */
  readonly headDim: number;
  /** Added to the mean square in every RMSNorm. */
  readonly normEpsilon: number;
  readonly hiddenAct: 'silu';
  readonly rope: RopeConfig;
  /** The head is the embedding. */
  readonly tieWordEmbeddings: boolean;
  readonly maxPositionEmbeddings: number;
  /** Biases on q, k and v, never on the output projection (Qwen2). */
  readonly attentionBias: boolean;
  readonly mlpBias: false;
  /** RMSNorm over each head of q and k before the rotation (Qwen3). */
  readonly queryKeyNorm: boolean;
  readonly bosTokenIds: readonly number[];
  readonly eosTokenIds: readonly number[];
}

/** Options of the parsers of configurations. */
export interface ParseConfigOptions {
  /** Name of the file, for messages. */
  readonly file?: string;
}

/** No model comes near; a table of rotary frequencies has half as many entries. */
export const MOST_HEAD_DIM = 65_536;

interface Family {
  /** What a file without `head_dim` means; undefined: hidden_size / num_attention_heads. */
  readonly headDim?: number;
  readonly maxPositionEmbeddings: number;
  readonly attentionBias: boolean;
  readonly queryKeyNorm: boolean;
  /** What a file without `num_key_value_heads` means; undefined: as many as query heads. */
  readonly keyValueHeadCount?: number;
  /** What a file without `sliding_window` means, in a family whose files have no switch for it. */
  readonly slidingWindow?: number;
}

// The defaults are those of the transformers library's classes.
const FAMILIES: Readonly<Record<TransformerType, Family>> = {
  llama: { maxPositionEmbeddings: 2048, attentionBias: false, queryKeyNorm: false },
  mistral: {
    maxPositionEmbeddings: 131072,
    attentionBias: false,
    queryKeyNorm: false,
    keyValueHeadCount: 8,
    slidingWindow: 4096,
  },
  qwen2: { maxPositionEmbeddings: 32768, attentionBias: true, queryKeyNorm: false },
  qwen3: { headDim: 128, maxPositionEmbeddings: 32768, attentionBias: false, queryKeyNorm: true },
};

const configSchema = z.looseObject({
  vocab_size: positiveInteger,
  hidden_size: positiveInteger,
  intermediate_size: positiveInteger,
  num_hidden_layers: layerCount,
  num_attention_heads: positiveInteger,
  num_key_value_heads: positiveInteger.nullish(),
  head_dim: positiveInteger.nullish(),
  rms_norm_eps: positive.nullish(),
  hidden_act: z.literal('silu', '"silu"').nullish(),
  tie_word_embeddings: boolean.nullish(),
  max_position_embeddings: positiveInteger.nullish(),
  attention_bias: boolean.nullish(),
  mlp_bias: z.literal(false, 'false (biases in the MLP are not supported)').nullish(),
  use_sliding_window: z.literal(false, 'false (sliding windows are not supported)').nullish(),
  sliding_window: positiveInteger.nullish(),
  layer_types: z.array(z.literal('full_attention', '"full_attention", the only kind supported')).nullish(),
  quantization_config: z.null('nothing: quantised checkpoints cannot be read').optional(),
  bos_token_id: tokenIds,
  eos_token_id: tokenIds,
  ...ropeFields,
});

type ConfigKeys = z.output<typeof configSchema>;

/**
 * Reads a Hugging Face `config.json` of a Llama, Mistral, Qwen2 or Qwen3, in the old spelling (`rope_theta`, `rope_scaling`) and
 * the new one (`rope_parameters`). Keys that are missing have the meaning that the transformers library gives them.
 * Dropout is ignored: nothing here drops out.
 *
 * @param json the text, or the parsed object
 * @throws ZebraError `format` that names the file and every key that is wrong, unsupported or contradicts another
 */
export function parseTransformerConfig(json: unknown, options: ParseConfigOptions = {}): TransformerConfig {
  const file = options.file ?? 'config.json';
  const object = readObject(file, json);
  const modelType = object.model_type;
  if (typeof modelType !== 'string' || !Object.hasOwn(FAMILIES, modelType)) {
    const known = Object.keys(FAMILIES).map(showValue).join(', ');
    throw new ZebraError('format', `${file}: model_type: expected one of ${known}, got ${showValue(modelType)}`);
  }
  const keys = readFields(file, configSchema, object);
  return configOf(file, modelType as TransformerType, keys);
}

function configOf(file: string, modelType: TransformerType, keys: ConfigKeys): TransformerConfig {
  const family = FAMILIES[modelType];
  const problems = new Problems(file);
  const maxPositionEmbeddings = keys.max_position_embeddings ?? family.maxPositionEmbeddings;
  const headCount = keys.num_attention_heads;
  // A null asks for as many as query heads in every family.
  const keyValueHeadCount =
    (keys.num_key_value_heads === undefined ? family.keyValueHeadCount : keys.num_key_value_heads) ?? headCount;
  const headDim = headDimOf(keys, family, problems);
  if (headCount % keyValueHeadCount !== 0) {
    problems.expected('num_key_value_heads', `a divisor of num_attention_heads (${headCount})`, keyValueHeadCount);
  }
  if (headDim > MOST_HEAD_DIM) problems.expected('head_dim', `at most ${MOST_HEAD_DIM}`, headDim);
  if (headDim % 2 !== 0) problems.expected('head_dim', 'an even number, as rotary positions turn pairs', headDim);
  checkBiases(modelType, keys, problems);
  // Qwen files name a window that `use_sliding_window: false` (the default) switches off.
  const isQwen = modelType === 'qwen2' || modelType === 'qwen3';
  const window = keys.sliding_window === undefined ? family.slidingWindow : keys.sliding_window;
  // One that no sequence leaves makes no difference.
  if (window && !isQwen && keys.use_sliding_window !== false && window < maxPositionEmbeddings) {
    const expected = `null, or at least max_position_embeddings (${maxPositionEmbeddings}): sliding windows are not supported`;
    problems.expected('sliding_window', expected, keys.sliding_window);
  }
  if (keys.layer_types && keys.layer_types.length !== keys.num_hidden_layers) {
    problems.expected('layer_types', `${keys.num_hidden_layers} entries, one a layer`, keys.layer_types.length);
  }
  for (const key of ['bos_token_id', 'eos_token_id'] as const) {
    if (keys[key].some((id) => id >= keys.vocab_size)) {
      problems.expected(key, `ids below vocab_size (${keys.vocab_size})`, keys[key]);
    }
  }
  const rope = parseRope({ ...keys, max_position_embeddings: maxPositionEmbeddings }, problems);
  problems.throwIfAny();
  return {
    modelType,
    vocabularySize: keys.vocab_size,
    hiddenSize: keys.hidden_size,
    intermediateSize: keys.intermediate_size,
    layerCount: keys.num_hidden_layers,
    headCount,
    keyValueHeadCount,
    headDim,
    normEpsilon: keys.rms_norm_eps ?? 1e-6,
    hiddenAct: 'silu',
    rope,
    tieWordEmbeddings: keys.tie_word_embeddings ?? false,
    maxPositionEmbeddings,
    attentionBias: family.attentionBias,
    mlpBias: false,
    queryKeyNorm: family.queryKeyNorm,
    bosTokenIds: keys.bos_token_id,
    eosTokenIds: keys.eos_token_id,
  };
}

function headDimOf(keys: ConfigKeys, family: Family, problems: Problems): number {
  // A null is not an absent key: it asks for the quotient in every family.
  const given = keys.head_dim === undefined ? family.headDim : keys.head_dim;
  if (given) return given;
  const quotient = keys.hidden_size / keys.num_attention_heads;
  if (!Number.isInteger(quotient)) {
    const expected = `a multiple of num_attention_heads (${keys.num_attention_heads}), as head_dim is not given`;
    problems.expected('hidden_size', expected, keys.hidden_size);
    return 2;
  }
  return quotient;
}

function checkBiases(modelType: TransformerType, { attention_bias }: ConfigKeys, problems: Problems): void {
  if (modelType === 'qwen2') {
    if (attention_bias === false) {
      problems.expected('attention_bias', 'true or nothing: a qwen2 has biases on q, k and v', attention_bias);
    }
  } else if (attention_bias) {
    problems.expected('attention_bias', `false: a ${modelType} with biases in attention is not supported`, true);
  }
}
