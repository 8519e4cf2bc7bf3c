import { type ModelSpec, modelSpec, parseHybridConfig, parseTransformerConfig } from '@zebra/runtime';
import { readJsonFile } from './golden.js';

/** Reads a `hybrid_config.json` that stands alone, without the Transformer's `config.json` that it as a rule lies beside. */
export async function readLayerConfig(folder: string): Promise<ModelSpec> {
  const hybrid = await readJsonFile<Record<string, unknown>>(folder, 'hybrid_config.json');
  const config = parseTransformerConfig({
    model_type: 'llama',
    vocab_size: 1,
    hidden_size: hybrid.hidden_size,
    intermediate_size: hybrid.intermediate_size,
    num_hidden_layers: hybrid.n_layer,
    num_attention_heads: hybrid.num_attention_heads,
    num_key_value_heads: hybrid.num_key_value_heads,
    head_dim: hybrid.v_head_dim,
    rms_norm_eps: hybrid.rms_norm_eps,
    max_position_embeddings: hybrid.max_position_embeddings,
    rope_theta: hybrid.rope_theta,
    hidden_act: 'silu',
  });
  return modelSpec(config, parseHybridConfig(hybrid, config));
}
