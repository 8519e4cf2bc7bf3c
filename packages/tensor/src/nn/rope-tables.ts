import { tensor } from '../core/create.js';
import type { Device } from '../device/device.js';
import { ZebraError } from '../errors.js';
import type { RopeTables } from '../ops/rope/index.js';

// All of it in float64 on the host: WGSL's sin and cos are off by up to 7e-3 at the angles of far positions.

/**
 * Plain rotary frequencies θ^(−2i/d), i from 0 to d/2 − 1, in radians a position (RoFormer, 2021).
 *
 * @param theta base, 10,000 or 500,000 or such
 * @param dimension number of rotated dimensions, even
 * @throws ZebraError `argument`
 */
export function plainFrequencies(theta: number, dimension: number): Float64Array {
  if (!(theta > 1) || !Number.isFinite(theta)) {
    throw new ZebraError('argument', `rope frequencies: theta must be a number above 1, got ${theta}`);
  }
  if (!Number.isInteger(dimension) || dimension < 2 || dimension % 2 !== 0) {
    throw new ZebraError('argument', `rope frequencies: dimension must be even and at least 2, got ${dimension}`);
  }
  return Float64Array.from({ length: dimension / 2 }, (_, i) => theta ** ((-2 * i) / dimension));
}

/** Arguments of {@link llama3Frequencies}, under the names of a checkpoint's `rope_scaling`. */
export interface Llama3Scaling {
  readonly theta: number;
  readonly dimension: number;
  readonly factor: number;
  readonly lowFrequencyFactor: number;
  readonly highFrequencyFactor: number;
  readonly originalMaxPositionEmbeddings: number;
}

/**
 * Frequencies of Llama 3.1 and later (`rope_type` "llama3"): short wavelengths stay, long ones are stretched by
 * `factor`, and those between are blended.
 *
 * @throws ZebraError `argument`
 */
export function llama3Frequencies(scaling: Llama3Scaling): Float64Array {
  const {
    factor,
    lowFrequencyFactor: low,
    highFrequencyFactor: high,
    originalMaxPositionEmbeddings: original,
  } = scaling;
  assertPositive('llama3Frequencies', { factor, lowFrequencyFactor: low, highFrequencyFactor: high, original });
  if (low >= high) {
    throw new ZebraError(
      'argument',
      `llama3Frequencies: lowFrequencyFactor must be below highFrequencyFactor, got ${low} and ${high}`,
    );
  }
  return plainFrequencies(scaling.theta, scaling.dimension).map((frequency) => {
    const wavelength = (2 * Math.PI) / frequency;
    if (wavelength < original / high) return frequency;
    if (wavelength > original / low) return frequency / factor;
    const smooth = (original / wavelength - low) / (high - low);
    return frequency * ((1 - smooth) / factor + smooth);
  });
}

/** Arguments of {@link yarnFrequencies}, under the names of a checkpoint's `rope_scaling`. */
export interface YarnScaling {
  readonly theta: number;
  readonly dimension: number;
  readonly factor: number;
  readonly originalMaxPositionEmbeddings: number;
  /** Default 1. */
  readonly mscale?: number;
  /** Default 0. */
  readonly mscaleAllDim?: number;
  /** Turns within the original context above which a frequency stays. Default 32. */
  readonly betaFast?: number;
  /** Turns below which a frequency is divided by `factor`. Default 1. */
  readonly betaSlow?: number;
}

/** What {@link yarnFrequencies} gives. */
export interface YarnFrequencies {
  readonly frequencies: Float64Array;
  /** Multiplies cos and sin: the `scale` of {@link buildRopeTables}. */
  readonly attentionFactor: number;
}

/**
 * Frequencies of YaRN (Peng et al., 2023) as DeepSeek's models use it, with the factor on cos and sin.
 *
 * @throws ZebraError `argument`
 */
export function yarnFrequencies(scaling: YarnScaling): YarnFrequencies {
  const { factor, mscale = 1, mscaleAllDim = 0 } = scaling;
  assertPositive('yarnFrequencies', { factor });
  const [low, high] = yarnCorrectionRange(scaling);
  // Equal bounds would divide by zero; the reference implementation parts them by this much.
  const span = (high === low ? high + 0.001 : high) - low;
  const frequencies = plainFrequencies(scaling.theta, scaling.dimension).map((extrapolated, i) => {
    const ramp = Math.min(Math.max((i - low) / span, 0), 1);
    return (extrapolated / factor) * ramp + extrapolated * (1 - ramp);
  });
  return { frequencies, attentionFactor: yarnMagnitude(factor, mscale) / yarnMagnitude(factor, mscaleAllDim) };
}

/** Index of the last frequency that YaRN leaves alone, and of the first that it divides by the whole factor. */
export function yarnCorrectionRange(scaling: YarnScaling): readonly [low: number, high: number] {
  const { theta, dimension, originalMaxPositionEmbeddings: original, betaFast = 32, betaSlow = 1 } = scaling;
  assertPositive('yarnFrequencies', { originalMaxPositionEmbeddings: original, betaFast, betaSlow });
  const correction = (turns: number) =>
    (dimension * Math.log(original / (2 * Math.PI * turns))) / (2 * Math.log(theta));
  return [Math.max(0, Math.floor(correction(betaFast))), Math.min(dimension - 1, Math.ceil(correction(betaSlow)))];
}

/**
 * YaRN's 0.1·mscale·ln(factor) + 1, or 1 for a factor up to 1. With `mscale_all_dim` its square also multiplies the
 * softmax scale of DeepSeek's attention.
 */
export function yarnMagnitude(factor: number, mscale: number): number {
  return factor <= 1 ? 1 : 0.1 * mscale * Math.log(factor) + 1;
}

/**
 * cos and sin of position · frequency, times `scale`, in float64: row-major [positionCount, frequencies.length].
 *
 * @param scale factor on both, {@link YarnFrequencies.attentionFactor}; 1 by default
 */
export function ropeAngles(
  frequencies: Float64Array,
  positionCount: number,
  scale = 1,
): { readonly cos: Float64Array; readonly sin: Float64Array } {
  if (!Number.isInteger(positionCount) || positionCount < 1) {
    throw new ZebraError(
      'argument',
      `rope tables: the number of positions must be a positive integer, got ${positionCount}`,
    );
  }
  const pairs = frequencies.length;
  const cos = new Float64Array(positionCount * pairs);
  const sin = new Float64Array(positionCount * pairs);
  for (let position = 0; position < positionCount; position++) {
    for (let i = 0; i < pairs; i++) {
      const angle = position * frequencies[i]!;
      cos[position * pairs + i] = Math.cos(angle) * scale;
      sin[position * pairs + i] = Math.sin(angle) * scale;
    }
  }
  return { cos, sin };
}

/**
 * Uploads the tables that `rope` reads: float32 [positionCount, frequencies.length], computed in float64.
 *
 * @param positionCount positions that may occur: the longest context, not the batch's length
 * @param scale factor on cos and sin, {@link YarnFrequencies.attentionFactor}; 1 by default
 * @returns two tensors that the caller owns
 * @throws ZebraError `argument`; `program` while a program is captured
 */
export function buildRopeTables(
  device: Device,
  frequencies: Float64Array,
  positionCount: number,
  scale = 1,
): RopeTables {
  const { cos, sin } = ropeAngles(frequencies, positionCount, scale);
  const shape = [positionCount, frequencies.length];
  return { cos: tensor(device, cos, shape), sin: tensor(device, sin, shape) };
}

function assertPositive(operation: string, values: Readonly<Record<string, number>>): void {
  for (const [name, value] of Object.entries(values)) {
    if (!(value > 0) || !Number.isFinite(value)) {
      throw new ZebraError('argument', `${operation}: ${name} must be a positive number, got ${value}`);
    }
  }
}
