/** What mixes the tokens of a layer. */
export type HybridLayerKind = 'attention' | 'mla' | 'mamba2';

/** Ranks of one MLA layer. */
export interface MlaRanks {
  /** Null for one full `q_proj`. */
  readonly qLoraRank: number | null;
  readonly kvLoraRank: number;
}

/** What the MLA layers of a hybrid have in common. Sizes that no layer uses hold defaults. */
export interface HybridMlaConfig extends MlaRanks {
  /** Size of the part of a head's query and key without position. */
  readonly qkNopeHeadDim: number;
  /** Size of the rotary part, even. */
  readonly qkRopeHeadDim: number;
  /** Size of a head's value. */
  readonly vHeadDim: number;
  /** RMSNorm on both latents. */
  readonly useLoraLayerNorm: boolean;
  /** Keys and values for every query head instead of for the key/value heads. */
  readonly useFullKvHead: boolean;
  readonly rope: {
    readonly theta: number;
    /** YaRN; null for plain frequencies. */
    readonly scaling: { readonly factor: number; readonly originalMaxPositionEmbeddings: number } | null;
  };
  /** Layers whose ranks differ from the ones above (ranks chosen by energy); undefined where none does. */
  readonly layerRanks?: ReadonlyMap<number, MlaRanks>;
  /** Multiple that ranks are rounded to when they are chosen; carried along. */
  readonly qkvRankDivisor: number;
}

/** What the Mamba2 layers of a hybrid have in common. */
export interface HybridMamba2Config {
  /** Channels, n_h·d_h. */
  readonly innerSize: number;
  /** Channels of x and of B before they are repeated, n_kv·d_h. */
  readonly xbSize: number;
  /** State size N of a head, d_h. */
  readonly stateSize: number;
  /** Groups and heads, n_h. */
  readonly groups: number;
  /** Repeat x and B to all heads before the convolution rather than after it. */
  readonly repeatKvBeforeConv: boolean;
  /** Width of the causal convolution. */
  readonly convKernel: 4;
  /** `ssm_cfg.expand`; carried along. */
  readonly expand: number;
}

/** A hybrid, as its `hybrid_config.json` describes it beside the Transformer's `config.json`. */
export interface HybridConfig {
  /** What each layer is. */
  readonly layers: readonly HybridLayerKind[];
  readonly hiddenSize: number;
  readonly intermediateSize: number;
  readonly headCount: number;
  readonly keyValueHeadCount: number;
  readonly normEpsilon: number;
  readonly maxPositionEmbeddings: number;
  readonly mla: HybridMlaConfig;
  readonly mamba2: HybridMamba2Config;
}
