import type { Mamba2Config } from '@zebra/mamba2';
import type { MlaConfig } from '@zebra/mla';
import { ZebraError } from '@zebra/tensor';
import type { ComputeDType } from '@zebra/tensor/nn';
import type { HybridConfig, TransformerConfig } from '../config/index.js';
import type { LayerKind } from './prefixes.js';
import { positionsOf } from './rope.js';

/** What a model is built from: its Transformer's config, what each layer is, and the configs of the layers that need one. */
export interface ModelSpec {
  readonly config: TransformerConfig;
  readonly layers: readonly LayerKind[];
  /** As written to and read from `hybrid_config.json`; undefined for a plain Transformer. */
  readonly hybrid: HybridConfig | undefined;
  /** Rows of the rotary tables: the most tokens that a sequence may have. */
  readonly maxPositions: number;
  /** See {@link ModelSpecOptions}. */
  readonly computeDType: ComputeDType;
  mla(layer: number): MlaConfig;
  mamba2(): Mamba2Config;
}

/** Options of {@link modelSpec}. */
export interface ModelSpecOptions {
  /** Most tokens that a sequence may have. Default: the config's context, at most 16384. */
  readonly maxPositions?: number;
  /**
   * What layers compute in: activations, caches and the weights' copies. The residual stream, norms' statistics and all
   * sums stay float32. `float16` needs an adapter with `shader-f16`, and is what the matrix units of GPUs take. Default float32.
   */
  readonly computeDType?: ComputeDType;
}

/** The spec of a plain Transformer, or with `hybrid` of a hybrid. */
export function modelSpec(config: TransformerConfig, hybrid?: HybridConfig, options: ModelSpecOptions = {}): ModelSpec {
  const maxPositions = positionsOf(config, options.maxPositions);
  const layers = hybrid?.layers ?? new Array<LayerKind>(config.layerCount).fill('attention');
  if (layers.length !== config.layerCount) {
    throw new ZebraError(
      'format',
      `model: config.json has ${config.layerCount} layers, hybrid_config.json ${layers.length}. They must describe one model.`,
    );
  }
  const need = (): HybridConfig => {
    if (!hybrid) throw new ZebraError('argument', 'model: this Transformer has no hybrid layers');
    return hybrid;
  };
  return {
    config,
    layers,
    hybrid,
    maxPositions,
    computeDType: options.computeDType ?? 'float32',
    mla: (layer) => mlaConfig(config, need(), layer, maxPositions),
    mamba2: () => ({
      hiddenSize: config.hiddenSize,
      headCount: config.headCount,
      keyValueHeadCount: config.keyValueHeadCount,
      headDim: config.headDim,
      repeatKvBeforeConv: need().mamba2.repeatKvBeforeConv,
    }),
  };
}

function mlaConfig(config: TransformerConfig, { mla }: HybridConfig, layer: number, maxPositions: number): MlaConfig {
  const ranks = mla.layerRanks?.get(layer);
  return {
    hiddenSize: config.hiddenSize,
    headCount: config.headCount,
    keyValueHeadCount: config.keyValueHeadCount,
    qLoraRank: ranks ? ranks.qLoraRank : mla.qLoraRank,
    kvLoraRank: ranks?.kvLoraRank ?? mla.kvLoraRank,
    qkNopeHeadDim: mla.qkNopeHeadDim,
    qkRopeHeadDim: mla.qkRopeHeadDim,
    vHeadDim: mla.vHeadDim,
    useLoraLayerNorm: mla.useLoraLayerNorm,
    useFullKvHead: mla.useFullKvHead,
    rope: mla.rope,
    maxPositions,
  };
}
