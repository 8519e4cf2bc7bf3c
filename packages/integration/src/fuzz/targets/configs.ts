import {
  cacheReport,
  countParameters,
  createHybridConfig,
  frequenciesOf,
  type HybridLayerKind,
  modelSpec,
  modelSpecs,
  parseHybridConfig,
  parseTransformerConfig,
  proposeHybrid,
  type TransformerConfig,
  writeHybridConfig,
} from '@zebra/runtime';
import { type Random, ZebraError } from '@zebra/tensor';
import { oneIn, pick } from '../draw.js';
import { type JsonTree, toText, toTree } from '../json-tree.js';
import { mutatedJson, oddValue } from '../mutate-json.js';
import { type FuzzFiles, type FuzzTarget, must } from '../target.js';

const SIZES = {
  hidden_size: 64,
  intermediate_size: 128,
  num_hidden_layers: 4,
  num_attention_heads: 4,
  num_key_value_heads: 2,
  rms_norm_eps: 1e-5,
  hidden_act: 'silu',
  vocab_size: 256,
  max_position_embeddings: 512,
  bos_token_id: 1,
  eos_token_id: [2, 3],
};
const LLAMA3 = {
  rope_type: 'llama3',
  factor: 8,
  low_freq_factor: 1,
  high_freq_factor: 4,
  original_max_position_embeddings: 64,
};
const YARN = { rope_type: 'yarn', factor: 4, original_max_position_embeddings: 128, beta_fast: 32, beta_slow: 1 };

export const CONFIGS: readonly JsonTree[] = [
  { ...SIZES, model_type: 'llama', tie_word_embeddings: true, rope_theta: 500000, rope_scaling: LLAMA3 },
  { ...SIZES, model_type: 'llama', rope_parameters: { rope_theta: 10000, ...YARN }, mlp_bias: false },
  { ...SIZES, model_type: 'qwen2', rope_theta: 1e6, sliding_window: 4096, use_sliding_window: false },
  { ...SIZES, model_type: 'qwen3', head_dim: 24, layer_types: new Array(4).fill('full_attention') },
  { ...SIZES, model_type: 'llama', rope_scaling: { type: 'linear', factor: 2 }, quantization_config: undefined },
].map(toTree);

export const HYBRID: JsonTree = toTree({
  hidden_size: 64,
  intermediate_size: 128,
  hidden_act: 'silu',
  n_layer: 4,
  mla_layers: [0, 2],
  rms_norm_eps: 1e-5,
  num_attention_heads: 4,
  num_key_value_heads: 2,
  kv_lora_rank: 16,
  q_lora_rank: 32,
  use_lora_layer_norm: false,
  use_full_kv_head: false,
  qk_rope_head_dim: 8,
  v_head_dim: 16,
  qk_nope_head_dim: 8,
  qkv_rank_divisor: 8,
  max_position_embeddings: 512,
  rope_theta: 500000,
  rope_scaling: { factor: 8, original_max_position_embeddings: 64, rope_type: 'yarn' },
  attention_bias: false,
  attention_dropout: 0,
  rope_type: 'yarn',
  d_model: 64,
  ssm_cfg: { expand: 1, ngroups: 4, d_state: 16, repeat_kv_before_conv: false },
  d_inner: 64,
  d_xb: 32,
  layer_rank_list: { 0: { q_rank: 8, kv_rank: 8 }, 2: { q_rank: 16 } },
});

const TYPES = [
  'llama',
  'qwen2',
  'qwen3',
  'mistral',
  'default',
  'linear',
  'llama3',
  'yarn',
  'dynamic',
  'longrope',
  'silu',
];

export function oddForConfig(random: Random): JsonTree {
  if (oneIn(random, 4)) return pick(random, TYPES);
  if (oneIn(random, 4)) return Array.from({ length: random.integer(6) }, () => random.integer(6));
  return oddValue(random);
}

/** Everything that is done with a config before there are weights. */
function use(transformer: TransformerConfig): void {
  const spec = modelSpec(transformer);
  const parameters = countParameters(spec);
  must(parameters > 0, 'a model has parameters');
  must(modelSpecs(spec).size >= transformer.layerCount, 'every layer has weights');
  must(cacheReport({ transformer }).sharePercent === 100, 'a Transformer keeps all of its cache');
  const layers = Array.from(
    { length: transformer.layerCount },
    (_, i): HybridLayerKind => (i % 2 === 0 ? 'mla' : 'mamba2'),
  );
  refusable(() => createHybridConfig(transformer, { layers, kvLoraRank: 16 }));
  refusable(() => proposeHybrid(transformer));
  refusable(() => {
    const { frequencies, factor } = frequenciesOf(transformer.rope, transformer.headDim);
    must(frequencies.length === transformer.headDim / 2 && Number.isFinite(factor), 'every pair has a frequency');
    must(
      frequencies.every((value) => value >= 0 && Number.isFinite(value)),
      'frequencies are finite',
    );
  });
}

/** A later step may still refuse what the parser let pass, by an error of ours. */
function refusable(step: () => unknown): void {
  try {
    step();
  } catch (error) {
    if (!ZebraError.is(error)) throw error;
  }
}

/** `config.json`. */
export const configTarget: FuzzTarget = {
  name: 'config',
  share: 16,
  make: (random) => ({ 'config.json': mutatedJson(pick(random, CONFIGS), random, oddForConfig) }),
  run(files: FuzzFiles) {
    use(parseTransformerConfig(files['config.json']));
  },
};

/** `hybrid_config.json` beside a good or a damaged `config.json`. */
export const hybridConfigTarget: FuzzTarget = {
  name: 'hybrid-config',
  share: 14,
  make(random) {
    const config = CONFIGS[0]!;
    return {
      'config.json': oneIn(random, 5) ? mutatedJson(config, random, oddForConfig) : toText(config),
      'hybrid_config.json': mutatedJson(HYBRID, random, oddForConfig),
    };
  },
  run(files: FuzzFiles) {
    const transformer = parseTransformerConfig(files['config.json']);
    const hybrid = parseHybridConfig(files['hybrid_config.json'], transformer);
    must(countParameters(modelSpec(transformer, hybrid)) > 0, 'a hybrid has parameters');
    cacheReport({ transformer, hybrid });
    refusable(() => frequenciesOf({ ...hybrid.mla.rope, scaling: null }, hybrid.mla.qkRopeHeadDim));
    const written = writeHybridConfig(hybrid);
    const again = parseHybridConfig(written, transformer);
    must(writeHybridConfig(again) === written, 'what is written is read and written the same');
  },
};
