import { type Device, keep } from '@zebra/tensor';
import {
  buildRopeTables,
  llama3Frequencies,
  plainFrequencies,
  type RopeTables,
  yarnFrequencies,
} from '@zebra/tensor/nn';
import type { RopeConfig, TransformerConfig } from '../config/index.js';

/** Rows of a rotary table that models get without asking: enough for most runs, small enough for a laptop. */
const DEFAULT_POSITIONS = 16384;

/** Tables that their model frees. */
export interface OwnedRopeTables extends RopeTables {
  dispose(): void;
}

/** Rotary tables of an attention model, computed in float64. */
export function attentionTables(device: Device, config: TransformerConfig, positions: number): OwnedRopeTables {
  const { frequencies, factor } = frequenciesOf(config.rope, config.headDim);
  const { cos, sin } = buildRopeTables(device, frequencies, positions, factor);
  keep(cos);
  keep(sin);
  return {
    cos,
    sin,
    dispose() {
      cos.dispose();
      sin.dispose();
    },
  };
}

/** Positions that a model's tables hold: as many as asked for, or as its context allows and is sensible. */
export function positionsOf(config: TransformerConfig, maxPositions?: number): number {
  return maxPositions ?? Math.min(config.maxPositionEmbeddings, DEFAULT_POSITIONS);
}

/** Rotation frequencies of each pair of a head, and the factor on cos and sin. */
export function frequenciesOf(
  { theta, scaling }: RopeConfig,
  dimension: number,
): { frequencies: Float64Array; factor: number } {
  if (!scaling) return { frequencies: plainFrequencies(theta, dimension), factor: 1 };
  switch (scaling.type) {
    case 'llama3': {
      const { factor, lowFreqFactor, highFreqFactor, originalMaxPositionEmbeddings } = scaling;
      const frequencies = llama3Frequencies({
        theta,
        dimension,
        factor,
        lowFrequencyFactor: lowFreqFactor,
        highFrequencyFactor: highFreqFactor,
        originalMaxPositionEmbeddings,
      });
      return { frequencies, factor: 1 };
    }
    case 'linear':
      return { frequencies: plainFrequencies(theta, dimension).map((f) => f / scaling.factor), factor: 1 };
    case 'yarn': {
      const { frequencies, attentionFactor } = yarnFrequencies({ theta, dimension, ...scaling });
      return { frequencies, factor: attentionFactor };
    }
  }
}
