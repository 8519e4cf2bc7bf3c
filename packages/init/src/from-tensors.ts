import type { Mamba2Config } from '@zebra/mamba2';
import type { MlaConfig } from '@zebra/mla';
import { keep, type Tensor, tensor } from '@zebra/tensor';
import { plainFrequencies, yarnFrequencies } from '@zebra/tensor/nn';
import {
  type AttentionTensors,
  deviceOf,
  disposeLinear,
  linearAttentionTensors,
  stackKeyValue,
  toHost,
} from './attention-tensors.js';
import type { AttentionShape } from './attention-weights.js';
import type { HostTensor } from './host-tensor.js';
import type { InitWarning } from './init-error.js';
import { singularValues } from './linear-algebra/svd.js';
import type { Mamba2FromAttentionOptions } from './mamba2-from-attention.js';
import { mamba2TensorsFromAttention } from './mamba2-on-device.js';
import { type MlaFromAttentionResult, mlaWeightsFromAttention } from './mla-from-attention.js';
import { type AttentionSpectra, mlaTensorsFromAttention } from './mla-on-device.js';
import { largestRanks, type MlaFromAttentionOptions } from './mla-options.js';
import { deviceSingularValues } from './subspace/bidiagonal.js';

/**
 * Matrices whose smaller side is up to this are decomposed on the host in float64, which is exact and takes half a
 * second at 256; larger ones on the device. A device that is a CPU itself gains nothing before its many cores do.
 */
const LARGEST_ON_HOST = { hardware: 256, software: 1024 };

/** Options of {@link initialiseMla}. */
export interface InitialiseMlaOptions extends Pick<MlaFromAttentionOptions, 'sharedRopeKey' | 'queryKeyScale'> {
  /**
   * The attention layer's rotary frequencies in radians a token, d_h/2 of them. Given, the rope rows are chosen to match
   * them (`frequency-aware`); not given, they are the reference's last rows.
   */
  readonly teacherFrequencies?: ArrayLike<number>;
  /** Singular values that {@link attentionSingularValues} gave for these weights. Default: computed. */
  readonly spectra?: AttentionSpectra;
  /**
   * `host` in float64, `device` in float32, `auto` by size: on the host up to 256, or 1024 where the
   * adapter is a CPU. Default `auto`.
   */
  readonly where?: 'auto' | 'host' | 'device';
}

/** An initialised layer. The caller owns its weights. */
export interface InitialisedLayer<Details> {
  /** Float32, under the names that the layer's class takes. */
  readonly weights: Map<string, Tensor>;
  readonly details: Details;
}

/**
 * The weights of an MLA layer from those of an attention layer, both on the device: see {@link mlaWeightsFromAttention}
 * for the maths. Small layers are worked out on the host in float64; large ones on the device in float32 (see
 * {@link leadingSubspace}), where peak memory beside the layer's own is about eight matrices of the size of W_Q.
 *
 * @param attention float32, float16 or bfloat16; not changed
 * @param config the MLA layer's own; its head size d_v is the attention layer's
 * @throws InitError for weights or sizes that do not fit; ZebraError `argument` without weights
 */
export async function initialiseMla(
  attention: AttentionTensors,
  config: MlaConfig,
  options: InitialiseMlaOptions = {},
): Promise<InitialisedLayer<Omit<MlaFromAttentionResult, 'weights'>>> {
  const { teacherFrequencies, sharedRopeKey, queryKeyScale, spectra } = options;
  const conversion: MlaFromAttentionOptions = {
    hiddenSize: config.hiddenSize,
    headCount: config.headCount,
    keyValueHeadCount: config.keyValueHeadCount,
    headDim: config.vHeadDim,
    qLoraRank: config.qLoraRank,
    kvLoraRank: config.kvLoraRank,
    qkNopeHeadDim: config.qkNopeHeadDim,
    qkRopeHeadDim: config.qkRopeHeadDim,
    vHeadDim: config.vHeadDim,
    useFullKvHead: config.useFullKvHead,
    useLoraLayerNorm: config.useLoraLayerNorm,
    ...(teacherFrequencies && { ropeRows: 'frequency-aware', rope: { teacherFrequencies, ...ownRotation(config) } }),
    ...(sharedRopeKey && { sharedRopeKey }),
    ...(queryKeyScale && { queryKeyScale }),
  };
  if (worksOnHost(attention, conversion, options.where)) {
    const { weights, ...details } = mlaWeightsFromAttention(await toHost(attention), conversion);
    return { weights: toDevice(attention, weights), details };
  }
  const { weights, ...details } = await mlaTensorsFromAttention(attention, conversion, spectra);
  for (const weight of weights.values()) keep(weight);
  return { weights, details };
}

/**
 * All singular values of W_Q and of [W_K; W_V] (heads not repeated), for ranks by energy ({@link layerEnergyRank})
 * before there is a config. Give them to {@link initialiseMla} as `spectra` and they are not computed again.
 *
 * @param attention as for {@link initialiseMla}
 * @throws InitError for weights or sizes that do not fit
 */
export async function attentionSingularValues(
  attention: AttentionTensors,
  shape: AttentionShape,
  options: Pick<InitialiseMlaOptions, 'where'> = {},
): Promise<{ readonly query: Float64Array; readonly keyValue: Float64Array }> {
  const linear = await linearAttentionTensors('attentionSingularValues', attention, shape);
  const stack = stackKeyValue(linear);
  const host = worksOnHost(attention, shape, options.where);
  try {
    const valuesOf = async (w: Tensor) =>
      host ? singularValues({ shape: w.shape, data: (await w.read()) as Float32Array }) : deviceSingularValues(w);
    return { query: await valuesOf(linear.query), keyValue: await valuesOf(stack) };
  } finally {
    stack.dispose();
    disposeLinear(linear);
  }
}

function worksOnHost(
  attention: AttentionTensors,
  shape: AttentionShape,
  where: InitialiseMlaOptions['where'] = 'auto',
): boolean {
  if (where !== 'auto') return where === 'host';
  const software = attention.values().next().value?.device.info.software;
  const { query, keyValue } = largestRanks(shape);
  return Math.max(query, keyValue) <= LARGEST_ON_HOST[software ? 'software' : 'hardware'];
}

function ownRotation({ rope, qkRopeHeadDim }: MlaConfig): { frequencies: Float64Array; amplitude: number } {
  if (!rope.scaling) return { frequencies: plainFrequencies(rope.theta, qkRopeHeadDim), amplitude: 1 };
  const yarn = yarnFrequencies({ theta: rope.theta, dimension: qkRopeHeadDim, ...rope.scaling });
  return { frequencies: yarn.frequencies, amplitude: yarn.attentionFactor };
}

/** Options of {@link initialiseMamba2}. */
export type InitialiseMamba2Options = Pick<Mamba2FromAttentionOptions, 'random' | 'biases' | 'queryKeyScale'>;

/**
 * The weights of a Mamba2 layer from those of an attention layer, both on the device: see
 * {@link mamba2WeightsFromAttention}, whose result this gives to the bit where no norm is folded. Nothing large is read
 * back.
 *
 * @param attention float32, float16 or bfloat16; not changed
 * @throws InitError for weights or sizes that do not fit; ZebraError `argument` without weights
 */
export async function initialiseMamba2(
  attention: AttentionTensors,
  config: Mamba2Config,
  options: InitialiseMamba2Options,
): Promise<InitialisedLayer<{ readonly warnings: readonly InitWarning[] }>> {
  const { weights, ...details } = await mamba2TensorsFromAttention(attention, { ...config, ...options });
  for (const weight of weights.values()) keep(weight);
  return { weights, details };
}

function toDevice(attention: AttentionTensors, weights: ReadonlyMap<string, HostTensor>): Map<string, Tensor> {
  const device = deviceOf(attention);
  return new Map([...weights].map(([name, { data, shape }]) => [name, keep(tensor(device, data, shape))]));
}
