import {
  createHybridConfig,
  type HybridLayerKind,
  HybridModel,
  type ModelSpec,
  type ModelSpecOptions,
  modelSpec,
  modelSpecs,
  parseTransformerConfig,
} from '@zebra/runtime';
import { type Device, keep, Random, type Shape, type Tensor, tensor } from '@zebra/tensor';

/** Every kind of model that the library builds. */
export const MODEL_KINDS = [
  'llama',
  'qwen2',
  'qwen3',
  'all-mla',
  'all-mamba2',
  'mla-mamba2',
  'attention-mamba2',
] as const;

export type ModelKind = (typeof MODEL_KINDS)[number];

/** Token ids that a small model knows. */
export const VOCABULARY = 61;

const SIZES = {
  vocab_size: VOCABULARY,
  hidden_size: 32,
  intermediate_size: 48,
  num_hidden_layers: 3,
  num_attention_heads: 4,
  num_key_value_heads: 2,
  head_dim: 8,
  rms_norm_eps: 1e-5,
  hidden_act: 'silu',
  rope_theta: 10000,
  max_position_embeddings: 256,
};

const LLAMA3_SCALING = {
  rope_type: 'llama3',
  factor: 8,
  low_freq_factor: 1,
  high_freq_factor: 4,
  original_max_position_embeddings: 64,
};

const LLAMA = { ...SIZES, model_type: 'llama', tie_word_embeddings: true, rope_scaling: LLAMA3_SCALING };

/** `config.json` of each kind. Heads of Qwen3 do not add up to the hidden size, as in the released ones. */
export const CONFIGS: Readonly<Record<ModelKind, Readonly<Record<string, unknown>>>> = {
  llama: LLAMA,
  qwen2: { ...SIZES, model_type: 'qwen2' },
  qwen3: { ...SIZES, model_type: 'qwen3', head_dim: 12, tie_word_embeddings: true },
  'all-mla': LLAMA,
  'all-mamba2': LLAMA,
  'mla-mamba2': { ...LLAMA, tie_word_embeddings: false },
  'attention-mamba2': LLAMA,
};

const LAYERS: Readonly<Partial<Record<ModelKind, readonly HybridLayerKind[]>>> = {
  'all-mla': ['mla', 'mla', 'mla'],
  'all-mamba2': ['mamba2', 'mamba2', 'mamba2'],
  'mla-mamba2': ['mla', 'mamba2', 'mla'],
  'attention-mamba2': ['mamba2', 'attention', 'mamba2'],
};

/** What a small model of a kind is made of. The MLA+Mamba2 one has every switch of the hybrids turned. */
export function smallSpec(kind: ModelKind, options: ModelSpecOptions = {}): ModelSpec {
  const config = parseTransformerConfig(CONFIGS[kind]);
  const layers = LAYERS[kind];
  if (!layers) return modelSpec(config, undefined, options);
  const turned = kind === 'mla-mamba2';
  const hybrid = createHybridConfig(config, {
    layers,
    kvLoraRank: 12,
    qLoraRank: turned ? null : 16,
    useLoraLayerNorm: turned,
    useFullKvHead: turned,
    repeatKvBeforeConv: turned,
  });
  return modelSpec(config, hybrid, options);
}

/** Random weights for a spec, of the size that trained ones have; owned by the caller. */
function smallWeights(device: Device, spec: ModelSpec, seed: number): Map<string, Tensor> {
  const random = new Random(seed);
  return new Map(
    [...modelSpecs(spec)].map(([name, shape]) => {
      const count = shape.reduce((product, size) => product * size, 1);
      const value = drawOf(name, shape, random);
      return [name, keep(tensor(device, Float32Array.from({ length: count }, value), shape))];
    }),
  );
}

function drawOf(name: string, shape: Shape, random: Random): () => number {
  if (name.endsWith('A_log')) return () => Math.log(1 + 15 * random.uniform());
  // softplus of it is a step of 0.01 to 0.1.
  if (name.endsWith('dt_bias')) return () => -4.6 + 2.3 * random.uniform();
  if (/norm|\.D$/.test(name)) return () => 1 + 0.2 * random.normal();
  if (name.endsWith('bias')) return () => 0.2 * random.normal();
  const inputs = shape.slice(1).reduce((product, size) => product * size, 1);
  return () => random.normal() / Math.sqrt(inputs);
}

/** A small random model of a kind: three layers, hidden size 32. The same seed gives the same weights. */
export function smallModel(device: Device, kind: ModelKind, seed = 1, options: ModelSpecOptions = {}): HybridModel {
  const spec = smallSpec(kind, options);
  return new HybridModel(device, spec, smallWeights(device, spec, seed));
}
