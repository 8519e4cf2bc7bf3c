import {
  type AttentionWeights,
  type HostTensor,
  type InitWarning,
  mamba2WeightsFromAttention,
  mlaWeightsFromAttention,
} from '@zebra/init';
import { createHybridConfig, type HybridLayerKind, HybridModel, modelSpec, modelSpecs } from '@zebra/runtime';
import { keep, Random, tensor } from '@zebra/tensor';
import type { CausalLM } from '@zebra/tensor/nn';

/** Weights in host memory by their names in a checkpoint. */
export type HostWeights = ReadonlyMap<string, HostTensor>;

/** How a student is made from a teacher. */
export interface StudentOptions {
  readonly layers: readonly HybridLayerKind[];
  readonly qLoraRank: number;
  readonly kvLoraRank: number;
  /** Changes a layer's attention before it is converted. Default: as it is. */
  readonly prepare?: (layer: number, attention: AttentionWeights) => AttentionWeights;
  /** Changes a layer's new weights, given those of the attention that it came from. Default: as they are. */
  readonly finish?: (attention: AttentionWeights, made: Map<string, HostTensor>) => void;
  /** Of what attention cannot supply to Mamba2. Default 7. */
  readonly seed?: number;
}

/** A student, owned by the caller, and what its initialisation warned of. */
export interface Student {
  readonly model: HybridModel;
  readonly warnings: readonly InitWarning[];
}

/** Every parameter of a model in host memory. */
export async function readWeights(model: CausalLM): Promise<HostWeights> {
  const weights = new Map<string, HostTensor>();
  for (const [name, parameter] of model.namedParameters()) {
    weights.set(name, { shape: parameter.shape, data: (await parameter.read()) as Float32Array });
  }
  return weights;
}

/** The tensors of one layer's attention, named as after `self_attn.`. */
export function attentionOf(weights: HostWeights, layer: number): AttentionWeights {
  const prefix = `model.layers.${layer}.self_attn.`;
  return Object.fromEntries(
    [...weights]
      .filter(([name]) => name.startsWith(prefix))
      .map(([name, weight]) => [name.slice(prefix.length), weight]),
  );
}

/** A student of the given kinds of layers: mixers made from the teacher's attention, everything else copied. */
export async function makeStudent(teacher: HybridModel, options: StudentOptions): Promise<Student> {
  const { device, spec } = teacher;
  const { config } = spec;
  const { layers, qLoraRank, kvLoraRank, prepare, finish, seed = 7 } = options;
  const hybrid = createHybridConfig(config, { layers, qLoraRank, kvLoraRank });
  const given = await readWeights(teacher);
  const made = new Map([...given].filter(([name]) => !name.includes('.self_attn.')));
  const random = new Random(seed);
  const warnings: InitWarning[] = [];
  // The config's rotary embedding and its flag for norms are not what the conversion means by these names.
  const { rope: _rope, queryKeyNorm: _norm, ...sizes } = { ...config, ...hybrid.mla };
  layers.forEach((kind, layer) => {
    const attention = attentionOf(given, layer);
    const prepared = prepare?.(layer, attention) ?? attention;
    const mixer =
      kind === 'mla'
        ? mlaWeightsFromAttention(prepared, sizes)
        : mamba2WeightsFromAttention(prepared, { ...sizes, random: () => random.uniform() });
    warnings.push(...mixer.warnings);
    finish?.(attention, mixer.weights);
    const prefix = `model.layers.${layer}.${kind === 'mla' ? 'mla' : 'mamba'}.`;
    for (const [name, weight] of mixer.weights) made.set(prefix + name, weight);
  });
  const studentSpec = modelSpec(config, hybrid);
  const tensors = new Map(
    [...modelSpecs(studentSpec).keys()].map((name) => {
      const { data, shape } = made.get(name)!;
      return [name, keep(tensor(device, Float32Array.from(data), shape))];
    }),
  );
  return { model: new HybridModel(device, studentSpec, tensors), warnings };
}
