import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { countParameters, parseTransformerConfig, readGenerationDefaults, readModelSpec } from '@zebra/runtime';
import { oneIn, pick } from '../draw.js';
import { type JsonTree, toText, toTree } from '../json-tree.js';
import { mutateBytes } from '../mutate-bytes.js';
import { mutatedJson } from '../mutate-json.js';
import { type FuzzFiles, type FuzzTarget, must } from '../target.js';
import { CONFIGS, HYBRID, oddForConfig } from './configs.js';

const CONFIG = CONFIGS[0]!;
const GENERATION = toTree({
  bos_token_id: 1,
  eos_token_id: [2, 3],
  do_sample: true,
  temperature: 0.6,
  top_k: 50,
  top_p: 0.9,
  transformers_version: '4.45.0',
});
/** X-EcoMLA's layout: what the model is, and what its MLA layers look like. */
const OUTER = toTree({ n_layer: 4, attn_layers: [1], d_model: 64, intermediate_size: 128, rms_norm_eps: 1e-5 });
const INNER = toTree({
  hidden_size: 64,
  num_attention_heads: 4,
  llama_num_key_value_heads: 2,
  kv_lora_rank: 16,
  q_lora_rank: 32,
  qk_rope_head_dim: 8,
  v_head_dim: 16,
  qk_nope_head_dim: 8,
  rope_theta: 500000,
  rope_scaling: { factor: 8, type: 'yarn', beta_fast: 32, beta_slow: 1 },
});
/** What a killed save leaves; it may claim anything. */
const SWITCH = toTree({
  entry: 'model.safetensors',
  modified: 0,
  companions: { 'config.json': '{}', '../escaped.json': 'x', 'hybrid_config.json': null },
});

/** The small files of a model's folder, in every layout that is read: their bytes damaged too. */
export const modelFolderTarget: FuzzTarget = {
  name: 'model-folder',
  share: 10,
  make(random) {
    const some = (tree: JsonTree, times: number) =>
      oneIn(random, times) ? toText(tree) : mutatedJson(tree, random, oddForConfig);
    const files: Record<string, string | Uint8Array> = {
      'config.json': oneIn(random, 6) ? some(CONFIG, 100) : toText(CONFIG),
      'generation_config.json': some(GENERATION, 4),
    };
    switch (random.integer(4)) {
      case 0:
        files['MLA_config.json'] = some(OUTER, 3);
        if (!oneIn(random, 10)) files['mla_layer_config.json'] = some(INNER, 3);
        break;
      case 1:
        files[pick(random, ['hybrid_config.json', 'mamba_config.json'])] = some(HYBRID, 3);
        break;
      default:
    }
    if (oneIn(random, 8)) files['.zebra-switch.json'] = some(SWITCH, 2);
    if (oneIn(random, 4)) {
      const name = pick(random, Object.keys(files));
      files[name] = mutateBytes(new TextEncoder().encode(files[name] as string), random);
    }
    return files;
  },
  async run(files: FuzzFiles, folder) {
    for (const [name, content] of Object.entries(files)) writeFileSync(join(folder, name), content);
    const spec = await readModelSpec(folder);
    must(countParameters(spec) > 0, 'a model has parameters');
    const config = parseTransformerConfig(new TextDecoder().decode(bytesOf(files['config.json']!)));
    const { stopTokenIds, temperature } = await readGenerationDefaults(folder, config);
    must(
      stopTokenIds?.every((id) => Number.isInteger(id) && id >= 0 && id < config.vocabularySize) ?? true,
      'texts end with ids of the vocabulary',
    );
    must(temperature === undefined || temperature >= 0, 'temperatures are not negative');
  },
};

function bytesOf(content: string | Uint8Array): Uint8Array {
  return typeof content === 'string' ? new TextEncoder().encode(content) : content;
}
