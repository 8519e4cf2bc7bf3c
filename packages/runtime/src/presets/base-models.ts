import type { TransformerConfig } from '../config/index.js';

/** Sizes of the published hybrids. */
export type PresetSize = '1B' | '3B' | '8B';

/** A Transformer that a published hybrid was made from. */
export interface BaseModel {
  /** Its name on the Hugging Face hub. */
  readonly name: string;
  /** What `parseTransformerConfig` reads from its `config.json`. */
  readonly config: TransformerConfig;
}

interface Sizes {
  readonly hiddenSize: number;
  readonly intermediateSize: number;
  readonly layerCount: number;
  readonly headCount: number;
  readonly headDim: number;
  readonly tieWordEmbeddings: boolean;
  readonly ropeFactor: number;
}

function llama3(sizes: Sizes): TransformerConfig {
  const { ropeFactor, ...rest } = sizes;
  return {
    modelType: 'llama',
    vocabularySize: 128256,
    keyValueHeadCount: 8,
    normEpsilon: 1e-5,
    hiddenAct: 'silu',
    rope: {
      theta: 500_000,
      scaling: {
        type: 'llama3',
        factor: ropeFactor,
        lowFreqFactor: 1,
        highFreqFactor: 4,
        originalMaxPositionEmbeddings: 8192,
      },
    },
    maxPositionEmbeddings: 131_072,
    attentionBias: false,
    mlpBias: false,
    queryKeyNorm: false,
    bosTokenIds: [128000],
    eosTokenIds: [128001, 128008, 128009],
    ...rest,
  };
}

/** The instruction-tuned Llamas that the published hybrids were made from; the largest taught them all. */
export const BASE_MODELS: Readonly<Record<PresetSize, BaseModel>> = {
  '1B': {
    name: 'meta-llama/Llama-3.2-1B-Instruct',
    config: llama3({
      hiddenSize: 2048,
      intermediateSize: 8192,
      layerCount: 16,
      headCount: 32,
      headDim: 64,
      tieWordEmbeddings: true,
      ropeFactor: 32,
    }),
  },
  '3B': {
    name: 'meta-llama/Llama-3.2-3B-Instruct',
    config: llama3({
      hiddenSize: 3072,
      intermediateSize: 8192,
      layerCount: 28,
      headCount: 24,
      headDim: 128,
      tieWordEmbeddings: true,
      ropeFactor: 32,
    }),
  },
  '8B': {
    name: 'meta-llama/Llama-3.1-8B-Instruct',
    config: llama3({
      hiddenSize: 4096,
      intermediateSize: 14336,
      layerCount: 32,
      headCount: 32,
      headDim: 128,
      tieWordEmbeddings: false,
      ropeFactor: 8,
    }),
  },
};
