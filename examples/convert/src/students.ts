import { type HostTensor, mamba2WeightsFromAttention, mlaWeightsFromAttention } from '@zebra/init';
import {
  createHybridConfig,
  frequenciesOf,
  type HybridLayerKind,
  HybridModel,
  type ModelSpec,
  modelSpec,
  modelSpecs,
} from '@zebra/runtime';
import { type Device, keep, Random, tensor } from '@zebra/tensor';
import type { CausalLM } from '@zebra/tensor/nn';

/** Sizes of the MLA layers that a teacher's attention becomes. */
export interface MlaChoice {
  /** r_q. */
  readonly queryRank: number;
  /** r_kv, the latent that the cache holds. */
  readonly keyValueRank: number;
  readonly nopeSize: number;
  readonly ropeSize: number;
  /** Which rows of a head are rotated: the reference's last ones, or those whose frequencies fit. */
  readonly ropeRows: 'last' | 'frequency-aware';
  /** How the key heads become one where frequencies are matched. Default: turned towards each other first. */
  readonly sharedRopeKey?: 'mean' | 'aligned';
}

/** Weights in host memory by their names in a checkpoint. */
export type HostWeights = ReadonlyMap<string, HostTensor>;

const MIXER = /^model\.layers\.(\d+)\.(self_attn|mla|mamba)\./;

/** The published proportions: half of a head rotated, three quarters of the queries' rank, 3/16 of keys' and values'. */
export function chooseMla({ config }: ModelSpec, ropeRows: MlaChoice['ropeRows']): MlaChoice {
  const { hiddenSize, headCount, keyValueHeadCount, headDim } = config;
  const ropeSize = 2 * Math.floor(headDim / 4);
  return {
    queryRank: Math.max(1, Math.floor(0.75 * Math.min(hiddenSize, headCount * headDim))),
    keyValueRank: Math.max(1, Math.floor((3 / 16) * Math.min(hiddenSize, 2 * keyValueHeadCount * headDim))),
    nopeSize: headDim - ropeSize,
    ropeSize,
    ropeRows,
  };
}

/** What a hybrid of a teacher is: its config, with the given kinds of layers. */
export function hybridSpec(teacher: ModelSpec, layers: readonly HybridLayerKind[], mla: MlaChoice): ModelSpec {
  const hybrid = createHybridConfig(teacher.config, {
    layers,
    qLoraRank: mla.queryRank,
    kvLoraRank: mla.keyValueRank,
    qkNopeHeadDim: mla.nopeSize,
    qkRopeHeadDim: mla.ropeSize,
  });
  return modelSpec(teacher.config, hybrid);
}

/** Reads every parameter of a model to host memory, in the order of its names. */
export async function readWeights(model: CausalLM): Promise<HostWeights> {
  const weights = new Map<string, HostTensor>();
  for (const [name, parameter] of model.namedParameters()) {
    weights.set(name, { shape: parameter.shape, data: (await parameter.read()) as Float32Array });
  }
  return weights;
}

/** A model with copies of the given weights; it frees them with itself. */
export function buildModel(device: Device, spec: ModelSpec, weights: HostWeights): HybridModel {
  const named = [...weights].map(([name, { data, shape }]) => [name, keep(tensor(device, data, shape))] as const);
  return new HybridModel(device, spec, new Map(named));
}

/**
 * The weights of an all-MLA or all-Mamba2 student: mixers made from the teacher's attention, everything else copied.
 *
 * @param seed of what attention cannot supply to Mamba2: gates, steps, convolutions and decays
 */
export function initialiseStudent(
  teacher: ModelSpec,
  weights: HostWeights,
  student: ModelSpec,
  { mla, seed }: { readonly mla: MlaChoice; readonly seed: number },
): HostWeights {
  const initial = new Map<string, HostTensor>();
  for (const [name, weight] of weights) if (!MIXER.test(name)) initial.set(name, weight);
  const random = new Random(seed);
  for (let layer = 0; layer < teacher.config.layerCount; layer++) {
    const norm = `model.layers.${layer}.input_layernorm.weight`;
    const attention = {
      ...Object.fromEntries(under(weights, `model.layers.${layer}.self_attn.`)),
      // For the scale of a Qwen3's queries and keys.
      'input_layernorm.weight': weights.get(norm) as HostTensor,
    };
    const kind = student.layers[layer];
    const mixer = kind === 'mla' ? mlaFrom(teacher, student, attention, mla) : mambaFrom(student, attention, random);
    const prefix = `model.layers.${layer}.${kind === 'mla' ? 'mla' : 'mamba'}.`;
    for (const [name, weight] of mixer) initial.set(prefix + name, weight);
  }
  return new Map([...modelSpecs(student).keys()].map((name) => [name, initial.get(name) as HostTensor]));
}

function mlaFrom(
  teacher: ModelSpec,
  student: ModelSpec,
  attention: Record<string, HostTensor>,
  mla: MlaChoice,
): HostWeights {
  const { hiddenSize, headCount, keyValueHeadCount, headDim, rope } = teacher.config;
  const { vHeadDim, rope: ownRope } = student.hybrid!.mla;
  const own = frequenciesOf(
    {
      theta: ownRope.theta,
      scaling: ownRope.scaling && { type: 'yarn', betaFast: 32, betaSlow: 1, ...ownRope.scaling },
    },
    mla.ropeSize,
  );
  const aware = {
    ropeRows: 'frequency-aware',
    sharedRopeKey: mla.sharedRopeKey ?? 'aligned',
    rope: {
      teacherFrequencies: frequenciesOf(rope, headDim).frequencies,
      frequencies: own.frequencies,
      amplitude: own.factor,
    },
  } as const;
  return mlaWeightsFromAttention(attention, {
    hiddenSize,
    headCount,
    keyValueHeadCount,
    headDim,
    qLoraRank: mla.queryRank,
    kvLoraRank: mla.keyValueRank,
    qkNopeHeadDim: mla.nopeSize,
    qkRopeHeadDim: mla.ropeSize,
    vHeadDim,
    ...(mla.ropeRows === 'frequency-aware' ? aware : { ropeRows: 'last' as const }),
  }).weights;
}

function mambaFrom(student: ModelSpec, attention: Record<string, HostTensor>, random: Random): HostWeights {
  const { hiddenSize, headCount, keyValueHeadCount, headDim } = student.config;
  return mamba2WeightsFromAttention(attention, {
    hiddenSize,
    headCount,
    keyValueHeadCount,
    headDim,
    repeatKvBeforeConv: student.hybrid!.mamba2.repeatKvBeforeConv,
    random: () => random.uniform(),
  }).weights;
}

/** The weights of a hybrid: each layer whole from the student of its kind, the rest as in both. */
export function composeWeights(
  spec: ModelSpec,
  students: { readonly mla: HostWeights; readonly mamba2: HostWeights },
): HostWeights {
  const source = (name: string): HostWeights => {
    const layer = /^model\.layers\.(\d+)\./.exec(name)?.[1];
    return layer !== undefined && spec.layers[Number(layer)] === 'mla' ? students.mla : students.mamba2;
  };
  return new Map([...modelSpecs(spec).keys()].map((name) => [name, source(name).get(name) as HostTensor]));
}

function under(weights: HostWeights, prefix: string): [string, HostTensor][] {
  return [...weights]
    .filter(([name]) => name.startsWith(prefix))
    .map(([name, weight]) => [name.slice(prefix.length), weight]);
}
