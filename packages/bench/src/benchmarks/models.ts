import { mamba2Sizes } from '@zebra/mamba2';
import {
  countParameters,
  type HybridConfig,
  type ModelSpec,
  modelSpec,
  type PresetName,
  parseTransformerConfig,
  presetHybridConfig,
  presets,
  type TransformerConfig,
} from '@zebra/runtime';
import type { Precision, Scale } from '../runner/case.js';

const PRESET = 'Zebra-Llama-1B-4MLA-12Mamba' satisfies PresetName;

/** A Llama that a CPU runs in milliseconds. */
const SMALL = parseTransformerConfig({
  model_type: 'llama',
  vocab_size: 512,
  hidden_size: 64,
  intermediate_size: 128,
  num_hidden_layers: 3,
  num_attention_heads: 4,
  num_key_value_heads: 2,
  head_dim: 16,
  rms_norm_eps: 1e-5,
  rope_theta: 10000,
  max_position_embeddings: 4096,
  tie_word_embeddings: true,
});

/** The name of a published hybrid. Any other is refused with an error that lists them. */
export function presetNamed(name: string): PresetName {
  presetHybridConfig(name as PresetName);
  return name as PresetName;
}

/** The Llama of a published hybrid (default: Llama-3.2-1B), or the small one. */
export function llamaConfig(large: boolean, preset: PresetName = PRESET): TransformerConfig {
  return large ? presets[preset].base.config : SMALL;
}

/** The published hybrid, or a small one; with other layers where they are given. */
export function hybridConfig(
  large: boolean,
  layers?: HybridConfig['layers'],
  preset: PresetName = PRESET,
): HybridConfig {
  const whole = presetHybridConfig(preset);
  if (large) return layers ? { ...whole, layers } : whole;
  const { mla, mamba2 } = whole;
  return {
    ...whole,
    layers: layers ?? ['mla', 'mamba2', 'mamba2'],
    mla: { ...mla, qLoraRank: 32, kvLoraRank: 16, qkNopeHeadDim: 8, qkRopeHeadDim: 8, vHeadDim: 16 },
    mamba2: { ...mamba2, innerSize: 64, xbSize: 32, stateSize: 16 },
  };
}

/** A model as rows name it. */
export interface NamedModel {
  readonly label: string;
  readonly dtype: Precision;
  spec(maxPositions: number): ModelSpec;
}

/**
 * The Llama and the hybrid that an adapter is measured with: of 1B parameters in float16 on GPUs, small ones in float32
 * on CPUs, and none on GPUs that do not compute in float16, where a step of 1B takes seconds.
 */
export function benchModels({ large, float16 }: Scale): readonly NamedModel[] {
  if (large && !float16) return [];
  const dtype = large ? 'float16' : 'float32';
  const spec = (hybrid: boolean) => (maxPositions: number) =>
    modelSpec(llamaConfig(large), hybrid ? hybridConfig(large) : undefined, { maxPositions, computeDType: dtype });
  return [
    { label: large ? 'Llama-3.2-1B' : 'small Llama', dtype, spec: spec(false) },
    { label: large ? '1B hybrid 4 MLA + 12 Mamba2' : 'small hybrid', dtype, spec: spec(true) },
  ];
}

/**
 * Operations of a forward pass over rows of `length` tokens that follow `past` others: two a weight and token (an
 * embedding is looked up; a tied one counts as the head), causal scores and their products with values, and for Mamba2
 * the recurrence in its plainest form (five an entry of the state and token).
 *
 * @param options.headTokens tokens that logits are computed for; default all
 */
export function forwardFlops(
  spec: ModelSpec,
  rows: number,
  length: number,
  { past = 0, headTokens = rows * length }: { readonly past?: number; readonly headTokens?: number } = {},
): number {
  const { config } = spec;
  const embedding = config.vocabularySize * config.hiddenSize;
  const body = countParameters(spec) - embedding * (config.tieWordEmbeddings ? 1 : 2);
  const tokens = rows * length;
  const pairs = rows * (length * past + (length * (length + 1)) / 2);
  const mixers = spec.layers.map((kind, layer) => {
    if (kind === 'attention') return 4 * config.headCount * config.headDim * pairs;
    if (kind === 'mla') {
      const { headCount, qkNopeHeadDim, qkRopeHeadDim, vHeadDim } = spec.mla(layer);
      return 2 * headCount * (qkNopeHeadDim + qkRopeHeadDim + vHeadDim) * pairs;
    }
    const { headCount, headDim } = spec.mamba2();
    return 5 * headCount * headDim * headDim * tokens;
  });
  return 2 * body * tokens + 2 * embedding * headTokens + mixers.reduce((total, flops) => total + flops, 0);
}

/** Bytes of what a model keeps of a row: so many a token, and what Mamba2 keeps in float32. */
export function cacheBytes(spec: ModelSpec): { readonly perToken: number; readonly constant: number } {
  const { config } = spec;
  const value = spec.computeDType === 'float16' ? 2 : 4;
  let [perToken, constant] = [0, 0];
  spec.layers.forEach((kind, layer) => {
    if (kind === 'attention') perToken += value * 2 * config.keyValueHeadCount * config.headDim;
    else if (kind === 'mla') {
      const { kvLoraRank, qkRopeHeadDim } = spec.mla(layer);
      perToken += value * (kvLoraRank + qkRopeHeadDim);
    } else {
      const { headCount, headDim, convSize, convKernel } = mamba2Sizes(spec.mamba2());
      constant += 4 * (headCount * headDim * headDim + convSize * convKernel);
    }
  });
  return { perToken, constant };
}

/** Bytes of all weights, matrices in `dtype`; what little else there is counts as if it were, too. */
export function weightBytes(spec: ModelSpec, dtype: Precision): number {
  return (dtype === 'float16' ? 2 : 4) * countParameters(spec);
}
