import { ZebraError } from '@zebra/tensor';
import { type WeightSpecs, yarnMagnitude } from '@zebra/tensor/nn';

/** YaRN scaling of the rotary frequencies (Peng et al., "YaRN", arXiv 2309.00071). */
export interface MlaRopeScaling {
  /** How many times longer contexts may be than those of the original training; at most 1 means no scaling. */
  readonly factor: number;
  /** Context length of the original training, in tokens. */
  readonly originalMaxPositionEmbeddings: number;
  /** Weight of ln(factor) in the magnitude of cos and sin. Default 1. */
  readonly mscale?: number;
  /** Weight of ln(factor) in the divisor of that magnitude and, where it is not 0, in the softmax scale. Default 0. */
  readonly mscaleAllDim?: number;
}

/** What an MLA layer is built from; the fields are those of a released `hybrid_config.json`, in camel case. */
export interface MlaConfig {
  /** Width of the residual stream, d. */
  readonly hiddenSize: number;
  /** Query heads, n_h. */
  readonly headCount: number;
  /** Key/value heads, n_kv; divides `headCount`. */
  readonly keyValueHeadCount: number;
  /** Rank of the queries' latent, r_q; null for one full `q_proj`. */
  readonly qLoraRank: number | null;
  /** Rank of the latent that keys and values share, r_kv: what the cache holds. */
  readonly kvLoraRank: number;
  /** Size of the part of a head's query and key without position. */
  readonly qkNopeHeadDim: number;
  /** Size of the rotary part, even; its key is shared by all heads. */
  readonly qkRopeHeadDim: number;
  /** Size of a head's value. */
  readonly vHeadDim: number;
  /** RMSNorm on both latents (DeepSeek has it, the released Zebra-Llama models have not). */
  readonly useLoraLayerNorm: boolean;
  /** `kv_b_proj` makes keys and values for every query head instead of for `keyValueHeadCount` heads. */
  readonly useFullKvHead: boolean;
  /** Added to the mean square in the norms of the latents. Default 1e-6. */
  readonly latentNormEpsilon?: number;
  readonly rope: {
    /** Base of the rotary frequencies, θ. */
    readonly theta: number;
    /** Null for plain frequencies. */
    readonly scaling: MlaRopeScaling | null;
  };
  /** Rows of the rotary tables: positions run from 0 to `maxPositions` − 1. Default 16384. */
  readonly maxPositions?: number;
}

/** A checked config with its defaults and derived sizes. */
export interface MlaSizes extends Required<MlaConfig> {
  /** Heads that `kv_b_proj` makes, n: n_kv, or n_h with `useFullKvHead`. */
  readonly keyHeadCount: number;
  /** Size of a head's query and key, nope and rope together. */
  readonly qkHeadDim: number;
  /** Elements of one cached row: the latent and the shared rotary key. */
  readonly cacheRowSize: number;
  /** Factor on the scores before the softmax. */
  readonly softmaxScale: number;
}

const COUNTS = [
  'hiddenSize',
  'headCount',
  'keyValueHeadCount',
  'kvLoraRank',
  'qkNopeHeadDim',
  'qkRopeHeadDim',
  'vHeadDim',
  'maxPositions',
] as const;

const isCount = (value: unknown): boolean => Number.isSafeInteger(value) && (value as number) >= 1;
const isPositive = (value: unknown): boolean => Number.isFinite(value) && (value as number) > 0;

/**
 * Checks a config, fills in its defaults and derives the sizes.
 *
 * @throws ZebraError `argument` that names every field that is wrong
 */
export function mlaSizes(config: MlaConfig): MlaSizes {
  const full = {
    ...config,
    latentNormEpsilon: config.latentNormEpsilon ?? 1e-6,
    maxPositions: config.maxPositions ?? 16384,
  };
  const problems = COUNTS.filter((name) => !isCount(full[name])).map(
    (name) => `${name} must be a positive integer, got ${String(full[name])}`,
  );
  const { headCount, keyValueHeadCount, qLoraRank, qkRopeHeadDim, rope } = full;
  if (qLoraRank !== null && !isCount(qLoraRank)) {
    problems.push(`qLoraRank must be a positive integer, or null for one q_proj, got ${String(qLoraRank)}`);
  }
  if (isCount(headCount) && isCount(keyValueHeadCount) && headCount % keyValueHeadCount !== 0) {
    problems.push(`headCount (${headCount}) must be a multiple of keyValueHeadCount (${keyValueHeadCount})`);
  }
  if (isCount(qkRopeHeadDim) && qkRopeHeadDim % 2 !== 0) {
    problems.push(`qkRopeHeadDim must be even, since rotation works on pairs, got ${qkRopeHeadDim}`);
  }
  for (const name of ['useLoraLayerNorm', 'useFullKvHead'] as const) {
    if (typeof full[name] !== 'boolean') problems.push(`${name} must be true or false, got ${String(full[name])}`);
  }
  if (!isPositive(full.latentNormEpsilon)) {
    problems.push(`latentNormEpsilon must be positive, got ${String(full.latentNormEpsilon)}`);
  }
  problems.push(...ropeProblems(rope));
  if (problems.length > 0) throw new ZebraError('argument', `MlaConfig: ${problems.join('; ')}`);
  const qkHeadDim = full.qkNopeHeadDim + qkRopeHeadDim;
  return {
    ...full,
    keyHeadCount: full.useFullKvHead ? headCount : keyValueHeadCount,
    qkHeadDim,
    cacheRowSize: full.kvLoraRank + qkRopeHeadDim,
    softmaxScale: qkHeadDim ** -0.5 * scoreMagnitude(rope.scaling) ** 2,
  };
}

function ropeProblems(rope: MlaConfig['rope'] | undefined): string[] {
  if (typeof rope !== 'object' || rope === null) return ['rope must be { theta, scaling }'];
  const problems: string[] = [];
  if (!(isPositive(rope.theta) && rope.theta > 1))
    problems.push(`rope.theta must be above 1, got ${String(rope.theta)}`);
  if (rope.scaling === undefined) problems.push('rope.scaling must be given; null means plain frequencies');
  if (!rope.scaling) return problems;
  const { factor, originalMaxPositionEmbeddings, mscale = 1, mscaleAllDim = 0 } = rope.scaling;
  if (!isPositive(factor)) problems.push(`rope.scaling.factor must be positive, got ${String(factor)}`);
  if (!isCount(originalMaxPositionEmbeddings)) {
    problems.push(
      `rope.scaling.originalMaxPositionEmbeddings must be a positive integer, got ${String(originalMaxPositionEmbeddings)}`,
    );
  }
  for (const [name, value] of Object.entries({ mscale, mscaleAllDim })) {
    if (!Number.isFinite(value)) problems.push(`rope.scaling.${name} must be a number, got ${String(value)}`);
  }
  return problems;
}

/** What the softmax scale carries twice in DeepSeek-V2's attention: 1 unless `mscaleAllDim` is set. */
function scoreMagnitude(scaling: MlaRopeScaling | null): number {
  return scaling ? yarnMagnitude(scaling.factor, scaling.mscaleAllDim ?? 0) : 1;
}

/**
 * The name and shape [out, in] of every weight of a layer, in the order of the released checkpoints.
 *
 * @throws ZebraError `argument` on a wrong config
 */
export function mlaWeightSpecs(config: MlaConfig): WeightSpecs {
  const sizes = mlaSizes(config);
  const { hiddenSize, headCount, qLoraRank, kvLoraRank, qkNopeHeadDim, vHeadDim, useLoraLayerNorm } = sizes;
  const specs = new Map<string, readonly number[]>();
  const queryRows = headCount * sizes.qkHeadDim;
  if (qLoraRank === null) specs.set('q_proj.weight', [queryRows, hiddenSize]);
  else {
    specs.set('q_a_proj.weight', [qLoraRank, hiddenSize]);
    if (useLoraLayerNorm) specs.set('q_a_layernorm.weight', [qLoraRank]);
    specs.set('q_b_proj.weight', [queryRows, qLoraRank]);
  }
  specs.set('kv_a_proj_with_mqa.weight', [sizes.cacheRowSize, hiddenSize]);
  if (useLoraLayerNorm) specs.set('kv_a_layernorm.weight', [kvLoraRank]);
  specs.set('kv_b_proj.weight', [sizes.keyHeadCount * (qkNopeHeadDim + vHeadDim), kvLoraRank]);
  specs.set('out_proj.weight', [hiddenSize, headCount * vHeadDim]);
  return specs;
}
