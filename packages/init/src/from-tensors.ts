import type { Mamba2Config } from '@zebra/mamba2';
import type { MlaConfig } from '@zebra/mla';
import { keep, type Tensor, tensor, ZebraError } from '@zebra/tensor';
import { plainFrequencies, yarnFrequencies } from '@zebra/tensor/nn';
import type { HostTensor } from './host-tensor.js';
import type { InitWarning } from './init-error.js';
import { mamba2WeightsFromAttention } from './mamba2-from-attention.js';
import { type MlaFromAttentionResult, mlaWeightsFromAttention } from './mla-from-attention.js';
import type { MlaFromAttentionOptions } from './mla-options.js';

/** Parameters of one attention layer on a device, named as after `self_attn.` in a checkpoint. */
export type AttentionTensors = ReadonlyMap<string, Tensor>;

/** Options of {@link initialiseMla}. */
export interface InitialiseMlaOptions extends Pick<MlaFromAttentionOptions, 'sharedRopeKey'> {
  /**
   * The attention layer's rotary frequencies in radians a token, d_h/2 of them. Given, the rope rows are chosen to match
   * them (`frequency-aware`); not given, they are the reference's last rows.
   */
  readonly teacherFrequencies?: ArrayLike<number>;
}

/** An initialised layer. The caller owns its weights. */
export interface InitialisedLayer<Details> {
  /** Float32, under the names that the layer's class takes. */
  readonly weights: Map<string, Tensor>;
  readonly details: Details;
}

/**
 * The weights of an MLA layer from those of an attention layer, both on the device: see {@link mlaWeightsFromAttention}
 * for the maths, which runs on the host in float64.
 *
 * @param config the MLA layer's own; its head size d_v is the attention layer's
 * @throws InitError for weights or sizes that do not fit; ZebraError `argument` without weights
 */
export async function initialiseMla(
  attention: AttentionTensors,
  config: MlaConfig,
  options: InitialiseMlaOptions = {},
): Promise<InitialisedLayer<Omit<MlaFromAttentionResult, 'weights'>>> {
  const { teacherFrequencies, sharedRopeKey } = options;
  const { weights, ...details } = mlaWeightsFromAttention(await toHost(attention), {
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
  });
  return { weights: toDevice(attention, weights), details };
}

function ownRotation({ rope, qkRopeHeadDim }: MlaConfig): { frequencies: Float64Array; amplitude: number } {
  if (!rope.scaling) return { frequencies: plainFrequencies(rope.theta, qkRopeHeadDim), amplitude: 1 };
  const yarn = yarnFrequencies({ theta: rope.theta, dimension: qkRopeHeadDim, ...rope.scaling });
  return { frequencies: yarn.frequencies, amplitude: yarn.attentionFactor };
}

/**
 * The weights of a Mamba2 layer from those of an attention layer, both on the device: see
 * {@link mamba2WeightsFromAttention}.
 *
 * @param random a seeded generator of uniform numbers in [0, 1) for what attention cannot supply
 * @throws InitError for weights or sizes that do not fit; ZebraError `argument` without weights
 */
export async function initialiseMamba2(
  attention: AttentionTensors,
  config: Mamba2Config,
  { random }: { readonly random: () => number },
): Promise<InitialisedLayer<{ readonly warnings: readonly InitWarning[] }>> {
  const { weights, warnings } = mamba2WeightsFromAttention(await toHost(attention), { ...config, random });
  return { weights: toDevice(attention, weights), details: { warnings } };
}

async function toHost(attention: AttentionTensors): Promise<Record<string, HostTensor>> {
  const host: Record<string, HostTensor> = {};
  for (const [name, weight] of attention)
    host[name] = { shape: weight.shape, data: (await weight.read()) as Float32Array };
  return host;
}

function toDevice(attention: AttentionTensors, weights: ReadonlyMap<string, HostTensor>): Map<string, Tensor> {
  const first = attention.values().next().value;
  if (!first) throw new ZebraError('argument', 'initialise: no attention weights given');
  return new Map([...weights].map(([name, { data, shape }]) => [name, keep(tensor(first.device, data, shape))]));
}
