import type { AttentionWeights, HostTensor } from '@zebra/init';

/** What one layer's attention was fed with: its input after the layer's first norm, [tokens, d], row-major. */
export interface LayerInputs {
  readonly tokens: number;
  readonly width: number;
  readonly data: Float64Array;
  /** Weight of that norm, [d]. */
  readonly norm: ArrayLike<number>;
}

/** How a Qwen's attention is made linear before it is converted. */
export type Preparation = (attention: AttentionWeights, inputs: LayerInputs) => AttentionWeights;

/** Without some tensors. */
function without(attention: AttentionWeights, pattern: RegExp): Record<string, HostTensor> {
  return Object.fromEntries(Object.entries(attention).filter(([name]) => !pattern.test(name)));
}

/** Biases are left out. */
export const dropBiases: Preparation = (attention) => without(attention, /bias$/);

/**
 * Each bias b becomes the change ΔW of its matrix that comes nearest to it on the inputs x: the least of
 * E‖ΔW·x − b‖², which is ΔW = b·(E[xxᵀ]⁻¹E[x])ᵀ, a matrix of rank one.
 */
export const foldBiases: Preparation = (attention, inputs) => {
  const direction = meanDirection(inputs);
  const result = without(attention, /bias$/);
  for (const part of ['q_proj', 'k_proj', 'v_proj']) {
    const bias = attention[`${part}.bias`];
    const weight = attention[`${part}.weight`]!;
    if (bias)
      result[`${part}.weight`] = changed(weight, (value, row, column) => value + bias.data[row]! * direction[column]!);
  }
  return result;
};

/** E‖b − ΔW·x‖² / ‖b‖² that {@link foldBiases} leaves: 1 − E[x]ᵀE[xxᵀ]⁻¹E[x]. */
export function foldingResidual(inputs: LayerInputs): number {
  const direction = meanDirection(inputs);
  const mean = moments(inputs).mean;
  return 1 - mean.reduce((sum, value, i) => sum + value * direction[i]!, 0);
}

/** Norms of queries and keys and their weights are left out. */
export const dropNorms: Preparation = (attention) => without(attention, /norm/);

/** The norms' weights go into the rows, and no more: the size that the normalisation takes out stays. */
export const foldNormWeights: Preparation = (attention) => {
  const result = without(attention, /norm/);
  for (const letter of ['q', 'k']) {
    const norm = attention[`${letter}_norm.weight`]?.data;
    const weight = attention[`${letter}_proj.weight`]!;
    if (norm) result[`${letter}_proj.weight`] = changed(weight, (value, row) => value * norm[row % norm.length]!);
  }
  return result;
};

/**
 * Weights of the norms, and for each head the mean over the inputs of what its normalisation multiplies by,
 * E[1/rms(W_h·x)], go into its rows, so that queries and keys keep their size on the average.
 */
export const foldNormScales: Preparation = (attention, inputs) => foldScales(attention, inputs, meanInverseRms);

/**
 * The same without any inputs: for inputs that are uncorrelated and of size 1 before the layer norm's weights g, the mean
 * square of a head is ‖W_h·diag(g)‖² / d_h.
 */
export const foldEstimatedNormScales: Preparation = (attention, inputs) =>
  foldScales(attention, inputs, estimatedInverseRms);

type HeadScales = (weight: HostTensor, size: number, inputs: LayerInputs) => number[];

function foldScales(attention: AttentionWeights, inputs: LayerInputs, scalesOf: HeadScales): AttentionWeights {
  const result = without(attention, /norm/);
  for (const letter of ['q', 'k']) {
    const norm = attention[`${letter}_norm.weight`];
    const weight = attention[`${letter}_proj.weight`]!;
    if (!norm) continue;
    const size = norm.data.length;
    const scales = scalesOf(weight, size, inputs);
    result[`${letter}_proj.weight`] = changed(
      weight,
      (value, row) => value * norm.data[row % size]! * scales[Math.floor(row / size)]!,
    );
  }
  return result;
}

function estimatedInverseRms({ shape, data }: HostTensor, size: number, { width, norm }: LayerInputs): number[] {
  return Array.from({ length: shape[0]! / size }, (_, head) => {
    let squares = 0;
    for (let i = head * size * width; i < (head + 1) * size * width; i++) squares += (data[i]! * norm[i % width]!) ** 2;
    return 1 / Math.sqrt(squares / size + 1e-6);
  });
}

function changed({ shape, data }: HostTensor, f: (value: number, row: number, column: number) => number): HostTensor {
  const columns = shape[1]!;
  return { shape, data: Float64Array.from(data, (value, i) => f(value, Math.floor(i / columns), i % columns)) };
}

function meanInverseRms({ shape, data }: HostTensor, size: number, { tokens, width, data: x }: LayerInputs): number[] {
  const heads = shape[0]! / size;
  const sums = new Array<number>(heads).fill(0);
  for (let token = 0; token < tokens; token++) {
    for (let head = 0; head < heads; head++) {
      let squares = 0;
      for (let row = head * size; row < (head + 1) * size; row++) {
        let value = 0;
        for (let i = 0; i < width; i++) value += data[row * width + i]! * x[token * width + i]!;
        squares += value * value;
      }
      sums[head]! += 1 / Math.sqrt(squares / size + 1e-6);
    }
  }
  return sums.map((sum) => sum / tokens);
}

function moments({ tokens, width, data }: LayerInputs): { mean: Float64Array; second: Float64Array } {
  const mean = new Float64Array(width);
  const second = new Float64Array(width * width);
  for (let token = 0; token < tokens; token++) {
    for (let i = 0; i < width; i++) {
      const value = data[token * width + i]! / tokens;
      mean[i]! += value;
      for (let j = 0; j < width; j++) second[i * width + j]! += value * data[token * width + j]!;
    }
  }
  return { mean, second };
}

/** E[xxᵀ]⁻¹E[x], by elimination with a ridge of a millionth of the mean square. */
function meanDirection(inputs: LayerInputs): Float64Array {
  const { width } = inputs;
  const { mean, second } = moments(inputs);
  let trace = 0;
  for (let i = 0; i < width; i++) trace += second[i * width + i]!;
  for (let i = 0; i < width; i++) second[i * width + i]! += (1e-6 * trace) / width;
  const x = mean.slice();
  // Positive definite, so that no pivot is needed.
  for (let k = 0; k < width; k++) {
    for (let i = k + 1; i < width; i++) {
      const factor = second[i * width + k]! / second[k * width + k]!;
      for (let j = k; j < width; j++) second[i * width + j]! -= factor * second[k * width + j]!;
      x[i]! -= factor * x[k]!;
    }
  }
  for (let i = width - 1; i >= 0; i--) {
    for (let j = i + 1; j < width; j++) x[i]! -= second[i * width + j]! * x[j]!;
    x[i]! /= second[i * width + i]!;
  }
  return x;
}

/**
 * Adds to a Mamba2 layer's `conv1d.bias` what its convolution makes of constant inputs b_v, b_k and b_q: from the fourth
 * token on, what a bias of `in_proj` would do.
 */
export function foldIntoConvolution(attention: AttentionWeights, made: Map<string, HostTensor>): void {
  const taps = made.get('conv1d.weight')!;
  const { shape, data } = made.get('conv1d.bias')!;
  const biases = ['v', 'k', 'q'].flatMap((letter) => [...(attention[`${letter}_proj.bias`]?.data ?? [])]);
  const width = taps.shape[2]!;
  const folded = Float32Array.from(data, (value, channel) => {
    let sum = 0;
    for (let tap = 0; tap < width; tap++) sum += taps.data[channel * width + tap]!;
    return value + sum * (biases[channel] ?? 0);
  });
  made.set('conv1d.bias', { shape, data: folded });
}
