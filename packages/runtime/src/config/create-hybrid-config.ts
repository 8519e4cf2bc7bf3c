import { ZebraError } from '@zebra/tensor';
import type { HybridConfig, HybridLayerKind } from './hybrid-config.js';
import type { TransformerConfig } from './transformer-config.js';

/** Options of {@link createHybridConfig}. */
export interface CreateHybridOptions {
  /** What each layer is. */
  readonly layers: readonly HybridLayerKind[];
  /** Rank of the latent of keys and values. */
  readonly kvLoraRank: number;
  /** Rank of the queries' latent. Default null: one full `q_proj`. */
  readonly qLoraRank?: number | null;
  /** Size of the rotary part of a head, even. Default: half the head. */
  readonly qkRopeHeadDim?: number;
  /** Size of the part without position. Default: the rest of the head. */
  readonly qkNopeHeadDim?: number;
  /** Default: the head size. */
  readonly vHeadDim?: number;
  /** Default false, as in every released model. */
  readonly useLoraLayerNorm?: boolean;
  /** Default false. */
  readonly useFullKvHead?: boolean;
  /** Default false. */
  readonly repeatKvBeforeConv?: boolean;
}

/**
 * The config of a hybrid made from a Transformer: sizes are the Transformer's, and a scaled rotary embedding of the
 * teacher (llama3 or YaRN) becomes YaRN with its factor and original length.
 *
 * @throws ZebraError `argument` for layers, ranks or sizes that do not fit
 */
export function createHybridConfig(transformer: TransformerConfig, options: CreateHybridOptions): HybridConfig {
  const { headCount, keyValueHeadCount, headDim, rope } = transformer;
  const { layers, kvLoraRank, qLoraRank = null } = options;
  const qkRopeHeadDim = options.qkRopeHeadDim ?? 2 * Math.floor(headDim / 4);
  const qkNopeHeadDim = options.qkNopeHeadDim ?? headDim - qkRopeHeadDim;
  const vHeadDim = options.vHeadDim ?? headDim;
  if (layers.length !== transformer.layerCount) {
    throw new ZebraError(
      'argument',
      `createHybridConfig: expected ${transformer.layerCount} layers, got ${layers.length}`,
    );
  }
  const sizes = { kvLoraRank, qLoraRank: qLoraRank ?? 1, qkRopeHeadDim, qkNopeHeadDim, vHeadDim };
  for (const [name, value] of Object.entries(sizes)) {
    if (!Number.isSafeInteger(value) || value < 1 || (name === 'qkRopeHeadDim' && value % 2 !== 0)) {
      const kind = name === 'qkRopeHeadDim' ? 'a positive even integer' : 'a positive integer';
      throw new ZebraError('argument', `createHybridConfig: ${name} must be ${kind}, got ${value}`);
    }
  }
  if (rope.scaling?.type === 'linear') {
    throw new ZebraError(
      'argument',
      'createHybridConfig: MLA layers have YaRN or no rope scaling, the teacher has linear',
    );
  }
  const scaled = rope.scaling;
  return {
    layers: [...layers],
    hiddenSize: transformer.hiddenSize,
    intermediateSize: transformer.intermediateSize,
    headCount,
    keyValueHeadCount,
    normEpsilon: transformer.normEpsilon,
    maxPositionEmbeddings: transformer.maxPositionEmbeddings,
    mla: {
      qLoraRank,
      kvLoraRank,
      qkNopeHeadDim,
      qkRopeHeadDim,
      vHeadDim,
      useLoraLayerNorm: options.useLoraLayerNorm ?? false,
      useFullKvHead: options.useFullKvHead ?? false,
      rope: {
        theta: rope.theta,
        scaling: scaled && {
          factor: scaled.factor,
          originalMaxPositionEmbeddings: scaled.originalMaxPositionEmbeddings,
        },
      },
      qkvRankDivisor: 8,
    },
    mamba2: {
      innerSize: headCount * headDim,
      xbSize: keyValueHeadCount * headDim,
      stateSize: headDim,
      groups: headCount,
      repeatKvBeforeConv: options.repeatKvBeforeConv ?? false,
      convKernel: 4,
      expand: 1,
    },
  };
}
