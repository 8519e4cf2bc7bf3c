import { ZebraError } from '@zebra/tensor';
import { createHybridConfig, type HybridConfig, type HybridLayerKind } from '../config/index.js';
import { BASE_MODELS, type BaseModel, type PresetSize } from './base-models.js';
import { type PresetRuns, PUBLISHED_RUNS } from './runs.js';

/** One published configuration of Zebra-Llama (arXiv 2505.17272). */
export interface HybridPreset {
  readonly size: PresetSize;
  /** The Transformer whose weights it begins with. */
  readonly base: BaseModel;
  /** The Transformer that teaches it end to end, by its name on the hub: the 8B one at every size. */
  readonly teacher: string;
  /** The layers that are MLA; all others are Mamba2. */
  readonly mlaLayers: readonly number[];
  /** Rank of the queries' latent, r_q. */
  readonly qLoraRank: number;
  /** Rank of the latent of keys and values, r_kv. */
  readonly kvLoraRank: number;
  /** Size of the part of a head's query and key without position. */
  readonly qkNopeHeadDim: number;
  /** Size of the rotary part. */
  readonly qkRopeHeadDim: number;
  /** Size of a head's value. */
  readonly vHeadDim: number;
  /** Rotary positions of the MLA layers: the base model's θ, factor and original length, as YaRN. */
  readonly yarn: HybridConfig['mla']['rope'];
  /** KV cache in percent of the base model's, as published. */
  readonly cacheSharePercent: number;
  /** Names of the weights on the hub; undefined for the two placements that only the paper has. */
  readonly checkpoints: { readonly sft: string; readonly dpo: string } | undefined;
  /** The runs that trained it. */
  readonly runs: PresetRuns;
}

const RANKS = {
  '1B': { qLoraRank: 1344, kvLoraRank: 128, qkNopeHeadDim: 32, qkRopeHeadDim: 32, vHeadDim: 64 },
  '3B': { qLoraRank: 1536, kvLoraRank: 128, qkNopeHeadDim: 64, qkRopeHeadDim: 64, vHeadDim: 128 },
  '8B': { qLoraRank: 2048, kvLoraRank: 160, qkNopeHeadDim: 64, qkRopeHeadDim: 64, vHeadDim: 128 },
} as const satisfies Readonly<Record<PresetSize, object>>;

const YARN_FACTOR = { '1B': 32, '3B': 32, '8B': 8 } as const satisfies Readonly<Record<PresetSize, number>>;

function preset(
  size: PresetSize,
  mlaLayers: readonly number[],
  cacheSharePercent: number,
  hubName?: string,
): HybridPreset {
  return {
    size,
    base: BASE_MODELS[size],
    teacher: BASE_MODELS['8B'].name,
    mlaLayers,
    ...RANKS[size],
    yarn: { theta: 500_000, scaling: { factor: YARN_FACTOR[size], originalMaxPositionEmbeddings: 8192 } },
    cacheSharePercent,
    checkpoints: hubName === undefined ? undefined : { sft: `${hubName}-SFT`, dpo: `${hubName}-DPO` },
    runs: PUBLISHED_RUNS[size],
  };
}

const EVEN_LAYERS = Array.from({ length: 16 }, (_, i) => 2 * i);

/**
 * The published configurations of Zebra-Llama (arXiv 2505.17272) by name. Six have weights on the hub; the other two
 * (`1B-6MLA-10Mamba`, `3B-8MLA-20Mamba`) are placements that only the paper has.
 */
export const presets = {
  'Zebra-Llama-1B-4MLA-12Mamba': preset('1B', [0, 5, 10, 14], 3.91, 'amd/Zebra-Llama-1B-4MLA-12Mamba'),
  'Zebra-Llama-1B-6MLA-10Mamba': preset('1B', [0, 2, 5, 8, 11, 14], 5.86),
  'Zebra-Llama-1B-8MLA-8Mamba': preset('1B', EVEN_LAYERS.slice(0, 8), 7.81, 'amd/Zebra-Llama-1B-8MLA-8Mamba'),
  'Zebra-Llama-3B-6MLA-22Mamba': preset('3B', [0, 5, 10, 16, 21, 26], 2.01, 'amd/Zebra-Llama-3B-6MLA-22Mamba'),
  'Zebra-Llama-3B-8MLA-20Mamba': preset('3B', [0, 3, 7, 10, 14, 18, 22, 26], 2.68),
  'Zebra-Llama-3B-14MLA-14Mamba': preset('3B', EVEN_LAYERS.slice(0, 14), 4.69, 'amd/Zebra-Llama-3B-14MLA-14Mamba'),
  'Zebra-Llama-8B-8MLA-24Mamba': preset('8B', [0, 4, 8, 12, 16, 20, 25, 30], 2.73, 'amd/Zebra-Llama-8B-8MLA-24Mamba'),
  'Zebra-Llama-8B-16MLA-16Mamba': preset('8B', EVEN_LAYERS, 5.47, 'amd/Zebra-Llama-8B-16MLA-16Mamba'),
} as const satisfies Readonly<Record<string, HybridPreset>>;

/** Name of a published configuration. */
export type PresetName = keyof typeof presets;

/**
 * The hybrid of a published configuration; `writeHybridConfig()` makes the released `hybrid_config.json` of it. The
 * Transformer beside it is `presets[name].base.config`.
 *
 * @throws ZebraError `argument` for a name that is not among {@link presets}
 */
export function presetHybridConfig(name: PresetName): HybridConfig {
  const found: HybridPreset | undefined = Object.hasOwn(presets, name) ? presets[name] : undefined;
  if (!found) {
    const known = Object.keys(presets).join(', ');
    throw new ZebraError('argument', `presetHybridConfig: expected one of ${known}, got ${JSON.stringify(name)}`);
  }
  const { config } = found.base;
  const hybrid = createHybridConfig(config, {
    ...found,
    layers: layerKinds(config.layerCount, found.mlaLayers),
    useLoraLayerNorm: false,
    useFullKvHead: false,
    repeatKvBeforeConv: false,
  });
  return { ...hybrid, mla: { ...hybrid.mla, rope: found.yarn } };
}

/** MLA where the list says so, Mamba2 elsewhere. */
export function layerKinds(layerCount: number, mlaLayers: readonly number[]): HybridLayerKind[] {
  const mla = new Set(mlaLayers);
  return Array.from({ length: layerCount }, (_, layer) => (mla.has(layer) ? 'mla' : 'mamba2'));
}
