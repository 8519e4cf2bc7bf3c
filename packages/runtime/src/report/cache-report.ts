import type { CausalLM } from '@zebra/tensor/nn';
import type { HybridConfig, TransformerConfig } from '../config/index.js';

/** What {@link cacheReport} takes: a Transformer, and the hybrid made from it. */
export interface CacheReportConfigs {
  readonly transformer: TransformerConfig;
  /** Without one, the Transformer itself is reported on. */
  readonly hybrid?: HybridConfig;
}

/** Options of {@link cacheReport}. */
export interface CacheReportOptions {
  /** Bytes of one cached value. Default 2 (float16), for published comparisons; the share does not depend on it. */
  readonly bytesPerValue?: number;
}

/** What generation keeps of one row. */
export interface CacheReport {
  /** Bytes of keys, values and latents that every further token adds. */
  readonly bytesPerToken: number;
  /** The same for the Transformer that the hybrid was made from. */
  readonly teacherBytesPerToken: number;
  /** bytesPerToken in percent of teacherBytesPerToken. */
  readonly sharePercent: number;
  /** Bytes of the recurrent states, which do not grow: convolution inputs and states of all Mamba2 layers. */
  readonly stateBytes: number;
  /** Tokens at which the teacher's cache is as large as the hybrid's cache and states together; 0 without states, ∞ where nothing is saved. */
  readonly breakEvenTokens: number;
}

/**
 * What the caches of a hybrid take, beside those of its teacher. A latent row has r_kv + d_rope values a token and
 * layer, keys and values of attention 2·n_kv·d_h, so that an all-MLA-and-Mamba2 hybrid keeps
 * n_MLA·(r_kv + d_rope) / (L·2·n_kv·d_h) of the cache (Zebra-Llama, arXiv 2505.17272). A Mamba2 layer keeps 4 inputs of
 * each channel of its convolution and n_h·d_h·d_h values of state.
 */
export function cacheReport(configs: CacheReportConfigs, options: CacheReportOptions = {}): CacheReport {
  const { transformer, hybrid } = configs;
  const bytes = options.bytesPerValue ?? 2;
  const attention = 2 * transformer.keyValueHeadCount * transformer.headDim;
  const teacher = transformer.layerCount * attention;
  if (!hybrid) return report(teacher * bytes, teacher * bytes, 0);
  let perToken = 0;
  let state = 0;
  hybrid.layers.forEach((kind, layer) => {
    if (kind === 'attention') perToken += attention;
    else if (kind === 'mla') {
      perToken += (hybrid.mla.layerRanks?.get(layer) ?? hybrid.mla).kvLoraRank + hybrid.mla.qkRopeHeadDim;
    } else state += mambaState(hybrid);
  });
  return report(perToken * bytes, teacher * bytes, state * bytes);
}

/**
 * The report of models as they are, in the bytes that their caches really take on the device.
 *
 * @param teacher the model to compare with; without one the share is of the model itself, 100%
 */
export function modelCacheReport(model: CausalLM, teacher: CausalLM = model): CacheReport {
  const of = teacher === model ? sizesOf(model) : sizesOf(teacher);
  const mine = teacher === model ? of : sizesOf(model);
  return report(mine.bytesPerToken, of.bytesPerToken, mine.constantBytes);
}

function sizesOf(model: CausalLM): { bytesPerToken: number; constantBytes: number } {
  const cache = model.newCache(1, 1);
  try {
    return { bytesPerToken: cache.bytesPerToken, constantBytes: cache.constantBytes };
  } finally {
    cache.dispose();
  }
}

function mambaState({ mamba2 }: HybridConfig): number {
  const { innerSize, xbSize, stateSize, convKernel, repeatKvBeforeConv } = mamba2;
  const channels = repeatKvBeforeConv ? 3 * innerSize : innerSize + 2 * xbSize;
  return channels * convKernel + innerSize * stateSize;
}

function report(bytesPerToken: number, teacherBytesPerToken: number, stateBytes: number): CacheReport {
  const saved = teacherBytesPerToken - bytesPerToken;
  return {
    bytesPerToken,
    teacherBytesPerToken,
    sharePercent: (100 * bytesPerToken) / teacherBytesPerToken,
    stateBytes,
    breakEvenTokens: stateBytes === 0 ? 0 : saved > 0 ? Math.ceil(stateBytes / saved) : Number.POSITIVE_INFINITY,
  };
}
