import { ZebraError } from '@zebra/tensor';
import { createHybridConfig, type HybridConfig, type TransformerConfig } from '../config/index.js';
import { modelSpec } from '../models/model-spec.js';
import { cacheReport } from '../report/cache-report.js';
import { countParameters } from './count-parameters.js';
import { evenPlacement } from './placement.js';
import { layerKinds } from './presets.js';
import { proposeRanks } from './ranks.js';

/** Options of {@link proposeHybrid}. Give `mlaLayers` or `cacheSharePercent`; with neither, half the layers are MLA. */
export interface ProposeHybridOptions {
  /** The MLA layers themselves (from `placeLayers()` of `@zebra/smart`), or how many, spread evenly. */
  readonly mlaLayers?: number | readonly number[];
  /**
   * KV cache that may be kept, in percent of the Transformer's: as many MLA layers as that allows, spread evenly. Shares
   * are compared as they are published, rounded to hundredths of a percent.
   */
  readonly cacheSharePercent?: number;
  /** Rank of the queries' latent, null for one full projection. Default: by the rule of {@link proposeHybrid}. */
  readonly qLoraRank?: number | null;
  /** Rank of the latent of keys and values. Default: by the rule of {@link proposeHybrid}. */
  readonly kvLoraRank?: number;
  /** Size of the rotary part of a head, even. Default: half the head. */
  readonly qkRopeHeadDim?: number;
  /** Size of the part without position. Default: the rest of the head. */
  readonly qkNopeHeadDim?: number;
  /** Default: the head size. */
  readonly vHeadDim?: number;
  /** Bytes of one cached value, for the byte counts. Default 2 (float16). */
  readonly bytesPerValue?: number;
}

/** A hybrid as {@link proposeHybrid} would build it, and what it would take. */
export interface HybridProposal {
  readonly hybrid: HybridConfig;
  /** Ascending. */
  readonly mlaLayers: readonly number[];
  /** KV cache of a token in percent of the Transformer's. */
  readonly cacheSharePercent: number;
  /** Bytes of cache that every token adds. */
  readonly bytesPerToken: number;
  /** Bytes of all Mamba2 layers' states for one sequence, however long. */
  readonly stateBytes: number;
  /** Exact, with tied embeddings counted once. */
  readonly parameters: number;
  /** The Transformer's, counted the same way. */
  readonly teacherParameters: number;
}

/**
 * Proposes a hybrid for a Llama or Qwen from its config alone, and says what it would take: no weight is needed.
 *
 * **Ranks.** No rule is published; these give the published ranks of all three sizes and are a starting point
 * elsewhere (d is the hidden size, n_h and n_kv the heads, d_h their size). r_kv is 5/128 of d rounded up to a multiple
 * of 32, at least 128, but no more than n_kv·d_h/4. r_q, for d above 2048, is the rank at which both query projections
 * are together as large as the teacher's, d/2 where n_h·d_h = d; for d up to 2048, the largest multiple of 64 for which
 * the layer's projections of queries, keys and values (these counted for all n_h heads) are no larger than the
 * teacher's, or one full projection where that is no restriction. Half of a head is rotary.
 *
 * **Placement.** Without a list the MLA layers are spread evenly: the first layer, the last but one, and between them
 * gaps that differ by one at most. It keeps SMART's placement rule; placements by score keep it too and do better.
 *
 * **Parameters** are summed over the shapes of the checkpoint's tensors, tied embeddings once. So counted, the
 * published hybrids have 1,285,700,736 / 1,276,425,152 / 1,267,149,568 (1B with 4, 6, 8 MLA layers), 3,389,592,112 /
 * 3,359,502,752 / 3,269,234,672 (3B with 6, 8, 14) and 8,379,095,296 / 8,185,746,944 (8B with 8, 16). The paper's
 * 1.27, 3.27, 3.39, 8.19 and 8.38 billion are these, rounded; its 1.28 for 1B with 4 is 1.2857, cut off.
 *
 * Biases of q, k and v (Qwen2) and norms of q and k (Qwen3) have no place in the hybrid's layers and are not counted
 * there. A linearly scaled rotary embedding cannot be carried over.
 *
 * @example
 * const { hybrid, cacheSharePercent } = proposeHybrid(parseTransformerConfig(text), { cacheSharePercent: 5 });
 * @throws ZebraError `argument` for options that contradict each other or the Transformer, and for a share that one
 *   MLA layer exceeds
 */
export function proposeHybrid(transformer: TransformerConfig, options: ProposeHybridOptions = {}): HybridProposal {
  const qkRopeHeadDim = options.qkRopeHeadDim ?? 2 * Math.floor(transformer.headDim / 4);
  const qkNopeHeadDim = options.qkNopeHeadDim ?? transformer.headDim - qkRopeHeadDim;
  const vHeadDim = options.vHeadDim ?? transformer.headDim;
  const ranks = proposeRanks(transformer, { rope: qkRopeHeadDim, nope: qkNopeHeadDim, v: vHeadDim });
  const kvLoraRank = options.kvLoraRank ?? ranks.kvLoraRank;
  const qLoraRank = options.qLoraRank === undefined ? ranks.qLoraRank : options.qLoraRank;
  const build = (mlaLayers: readonly number[]) => {
    const layers = layerKinds(transformer.layerCount, mlaLayers);
    return createHybridConfig(transformer, {
      layers,
      kvLoraRank,
      qLoraRank,
      qkRopeHeadDim,
      qkNopeHeadDim,
      vHeadDim,
    });
  };
  const mlaLayers = chooseLayers(transformer, options, build);
  const hybrid = build(mlaLayers);
  const report = cacheReport({ transformer, hybrid }, { bytesPerValue: options.bytesPerValue });
  return {
    hybrid,
    mlaLayers,
    cacheSharePercent: report.sharePercent,
    bytesPerToken: report.bytesPerToken,
    stateBytes: report.stateBytes,
    parameters: countParameters(modelSpec(transformer, hybrid)),
    teacherParameters: countParameters(modelSpec(transformer)),
  };
}

function chooseLayers(
  transformer: TransformerConfig,
  { mlaLayers, cacheSharePercent }: ProposeHybridOptions,
  build: (mlaLayers: readonly number[]) => HybridConfig,
): readonly number[] {
  const { layerCount } = transformer;
  if (mlaLayers !== undefined && cacheSharePercent !== undefined) {
    refuse('expected mlaLayers or cacheSharePercent, got both');
  }
  if (cacheSharePercent !== undefined) {
    const layerShare = cacheReport({ transformer, hybrid: build([0]) }).sharePercent;
    return evenPlacement(layerCount, layersForShare(cacheSharePercent, layerShare, layerCount));
  }
  if (mlaLayers === undefined || typeof mlaLayers === 'number') {
    const count = mlaLayers ?? Math.ceil(layerCount / 2);
    if (!Number.isInteger(count) || count < 0 || count > layerCount) {
      refuse(`mlaLayers: expected 0 to ${layerCount} layers, got ${count}`);
    }
    return evenPlacement(layerCount, count);
  }
  const sorted = [...mlaLayers].sort((a, b) => a - b);
  if (
    sorted.some((layer, i) => !Number.isInteger(layer) || layer < 0 || layer >= layerCount || layer === sorted[i - 1])
  ) {
    refuse(`mlaLayers: expected different layers from 0 to ${layerCount - 1}, got [${mlaLayers.join(', ')}]`);
  }
  return sorted;
}

function layersForShare(most: number, layerShare: number, layerCount: number): number {
  if (!(most > 0)) refuse(`cacheSharePercent: expected a positive number, got ${most}`);
  // Published shares are rounded: 7.81 must allow the 7.8125 that it stands for.
  const allowed = (count: number) => Math.round(100 * count * layerShare) <= Math.round(100 * most);
  let count = layerCount;
  while (count > 0 && !allowed(count)) count--;
  if (count === 0) {
    refuse(
      `cacheSharePercent: one MLA layer keeps ${layerShare.toFixed(2)}% already, ${most} was asked for. ` +
        'Ask for more, lower kvLoraRank, or say mlaLayers: 0 for Mamba2 alone.',
    );
  }
  return count;
}

function refuse(message: string): never {
  throw new ZebraError('argument', `proposeHybrid: ${message}`);
}
